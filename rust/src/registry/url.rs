//! URLs of registries: http and https only, without a user in them. Pure.

use ureq::http::Uri;

/// Who answers: credentials of one origin are for no other one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    pub is_https: bool,
    /// Lower-case; an IPv6 address in its brackets.
    pub host: String,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub origin: Origin,
    uri: Uri,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let usual = if self.is_https { 443 } else { 80 };
        write!(f, "{}://{}", if self.is_https { "https" } else { "http" }, self.host)?;
        if self.port == usual { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl Origin {
    /// `place`: a host with or without a port, as references have it.
    pub fn of(place: &str, is_https: bool) -> Option<Origin> {
        let scheme = if is_https { "https" } else { "http" };
        Some(Url::parse(&format!("{scheme}://{place}/")).ok()?.origin)
    }

    pub fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        let address = bare.parse::<std::net::IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    pub fn is_address(&self) -> bool {
        self.host.starts_with('[') || self.host.parse::<std::net::IpAddr>().is_ok()
    }
}

impl Url {
    pub fn parse(text: &str) -> Result<Url, String> {
        let uri: Uri = text.parse().map_err(|_| "it is no URL".to_string())?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("it is neither http nor https".into()),
        };
        let authority = uri.authority().ok_or("it has no host")?;
        if authority.as_str().contains('@') {
            return Err("it has a user in it".into());
        }
        let host = authority.host().to_ascii_lowercase();
        let rest = &authority.as_str()[authority.host().len()..];
        let port = match rest.strip_prefix(':') {
            None => {
                if is_https {
                    443
                } else {
                    80
                }
            }
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().map_err(|_| "its port is no number up to 65535")?
            }
            Some(_) => return Err("its port is none".into()),
        };
        if host.is_empty() {
            return Err("it has no host".into());
        }
        Ok(Url { origin: Origin { is_https, host, port }, uri })
    }

    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// What a Location or a Link names from here.
    pub fn join(&self, target: &str) -> Result<Url, String> {
        if target.is_empty() || target.chars().any(|letter| letter.is_control() || letter == ' ') {
            return Err("it is no URL".into());
        }
        let scheme = if self.origin.is_https { "https" } else { "http" };
        let path = self.uri.path();
        let has_scheme = target.split(['/', '?', '#']).next().is_some_and(|first| first.contains(':'));
        let whole = match target {
            _ if has_scheme => target.to_string(),
            _ if target.starts_with("//") => format!("{scheme}:{target}"),
            _ if target.starts_with('/') => format!("{}{target}", self.origin),
            _ if target.starts_with('?') => format!("{}{path}{target}", self.origin),
            _ => format!("{}{}{target}", self.origin, &path[..path.rfind('/').map_or(0, |at| at + 1)]),
        };
        Url::parse(whole.split('#').next().unwrap_or_default())
    }

    /// With one more parameter. The value has characters of digests, names and numbers only; others are escaped.
    pub fn with(&self, name: &str, value: &str) -> Result<Url, String> {
        let joint = if self.uri.query().is_some() { '&' } else { '?' };
        Url::parse(&format!("{}{joint}{name}={}", self.uri, escape(value)))
    }
}

/// For a query: RFC 3986's unreserved characters stay, and ':' and '/', which may.
pub fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn origins_are_compared_and_what_is_none_is_refused() {
        let origin = |text: &str| Url::parse(text).unwrap().origin;
        assert_eq!(origin("https://A.example/x"), origin("https://a.example:443/y?z"));
        assert_ne!(origin("https://a.example/"), origin("http://a.example/"));
        assert_ne!(origin("https://a.example/"), origin("https://a.example:444/"));
        assert_eq!(origin("http://[::1]:5000/").to_string(), "http://[::1]:5000");
        assert!(origin("http://[::1]:5000/").is_loopback() && origin("http://127.9.9.9/").is_loopback());
        assert!(!origin("http://localhost.example/").is_loopback());
        for bad in [
            "",
            "x",
            "/x",
            "ftp://a/",
            "file:///etc/passwd",
            "https://u:p@a/",
            "https://u@a/",
            "https://a:x/",
            "https://a:99999/",
            "https:///x",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn locations_are_read_from_where_one_is() {
        let base = Url::parse("https://r.example/v2/a/blobs/x?old=1").unwrap();
        for (target, whole) in [
            ("/b?c=d", "https://r.example/b?c=d"),
            ("y", "https://r.example/v2/a/blobs/y"),
            ("?q=1", "https://r.example/v2/a/blobs/x?q=1"),
            ("//other.example/z", "https://other.example/z"),
            ("http://other.example:81/z", "http://other.example:81/z"),
            ("/a#b", "https://r.example/a"),
        ] {
            assert_eq!(base.join(target).unwrap(), Url::parse(whole).unwrap(), "{target}");
        }
        for bad in ["", "/a b", "/a\r\nX: y", "javascript:x", "https://u:p@r.example/"] {
            assert!(base.join(bad).is_err(), "{bad}");
        }
        assert_eq!(base.with("digest", "sha256:a&b").unwrap().uri().query(), Some("old=1&digest=sha256:a%26b"));
    }

    proptest! {
        #[test]
        fn no_location_leaves_the_two_schemes_or_brings_a_user(target in "\\PC{0,60}|[a-z:/@?#.\\[\\]0-9]{0,40}") {
            let base = Url::parse("https://r.example/v2/").unwrap();
            if let Ok(url) = base.join(&target) {
                prop_assert!(matches!(url.uri().scheme_str(), Some("http" | "https")));
                prop_assert!(!url.uri().authority().unwrap().as_str().contains('@'));
            }
        }
    }
}
