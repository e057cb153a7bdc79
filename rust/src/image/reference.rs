//! References to images: `[host[:port]/]path[:tag][@digest]`, read as docker reads them. Pure.
//!
//! The grammar is that of the distribution project's `reference` package; a name without a host is one of Docker Hub's, and without a
//! namespace there it is one of `library/`.

use super::digest::{Digest, cut};
use crate::error::{Error, Result};
use std::fmt;

pub const HUB: &str = "docker.io";
pub const LATEST: &str = "latest";
/// Of host and path together.
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Of the registry, with its port.
    pub domain: String,
    pub path: String,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

impl Reference {
    /// Where neither a tag nor a digest is said, the tag is `latest`.
    pub fn parse(text: &str) -> Result<Reference> {
        read(text).map_err(|why| Error::InvalidReference(format!("{:?} is no reference: {why}", cut(text))))
    }

    /// Without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// What the registry is asked for: the digest where there is one.
    pub fn version(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| LATEST.into()),
        }
    }

    /// As one would type it: without docker.io and library/.
    pub fn familiar(&self) -> String {
        let short = match self.path.strip_prefix("library/") {
            Some(rest) if self.domain == HUB && !rest.contains('/') => rest.to_string(),
            _ if self.domain == HUB && !self.path.split('/').next().is_some_and(is_host) => self.path.clone(),
            _ => self.name(),
        };
        self.with_version(short)
    }

    fn with_version(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name = format!("{name}:{tag}");
        }
        if let Some(digest) = &self.digest {
            name = format!("{name}@{digest}");
        }
        name
    }
}

impl fmt::Display for Reference {
    /// All of it said: the form under which it is kept.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_version(self.name()))
    }
}

type Read<T> = std::result::Result<T, String>;

fn read(text: &str) -> Read<Reference> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!("it begins with a scheme ({scheme}://), and a name has none"));
    }
    if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(
            "64 hexadecimal digits are an id: write sha256: in front and a name before that, name@sha256:...".into()
        );
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(Digest::parse(digest).map_err(|error| error.to_string())?)),
        None => (text, None),
    };
    // A colon after the last slash begins a tag; one before it is that of a port.
    let after_slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[after_slash..].split_once(':') {
        Some((last, tag)) => (&rest[..after_slash + last.len()], Some(tag)),
        None => (rest, None),
    };
    let tag = tag.map(read_tag).transpose()?;
    let (domain, path) = split(name);
    check_domain(domain)?;
    check_path(&path)?;
    if domain.len() + 1 + path.len() > NAME_MAX {
        return Err(format!("its name has more than {NAME_MAX} characters"));
    }
    let tag = if tag.is_none() && digest.is_none() { Some(LATEST.into()) } else { tag };
    Ok(Reference { domain: domain.into(), path, tag, digest })
}

/// Whether what stands before the first slash is one: a dot, a port, "localhost", an upper-case letter.
fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase)
}

fn split(name: &str) -> (&str, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => (HUB, name),
    };
    let domain = if domain == "index.docker.io" { HUB } else { domain };
    if domain == HUB && !path.contains('/') { (domain, format!("library/{path}")) } else { (domain, path.into()) }
}

fn check_domain(domain: &str) -> Read<()> {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or("its host has no closing bracket")?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| "its host is no IPv6 address".to_string())?;
            ("", if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or("its host is none")?) })
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    let is_label = |part: &str| {
        let inner = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        !part.is_empty() && inner && !part.starts_with('-') && !part.ends_with('-')
    };
    if !domain.starts_with('[') && !host.split('.').all(is_label) {
        return Err("its host is none".into());
    }
    match port {
        Some(port)
            if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().is_err() =>
        {
            Err("its port is no number up to 65535".into())
        }
        _ => Ok(()),
    }
}

/// Lower-case letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn check_path(path: &str) -> Read<()> {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("a name has no upper-case letters".into());
    }
    for part in path.split('/') {
        let alphanumeric = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
        let (first, last) = (part.bytes().next(), part.bytes().last());
        if !first.is_some_and(alphanumeric) || !last.is_some_and(alphanumeric) {
            return Err("each part of a name begins and ends with a letter or digit".into());
        }
        let runs = part.split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit());
        let separator = |run: &str| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|byte| byte == b'-');
        if let Some(bad) = runs.into_iter().find(|run| !separator(run)) {
            return Err(format!("{:?} stands in its name", cut(bad)));
        }
    }
    Ok(())
}

fn read_tag(tag: &str) -> Read<String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let inner = |byte: u8| word(byte) || matches!(byte, b'.' | b'-');
    if tag.is_empty() || tag.len() > TAG_MAX || !tag.bytes().next().is_some_and(word) || !tag.bytes().all(inner) {
        return Err(format!(
            "a tag has 1 to {TAG_MAX} letters, digits, '_', '.' and '-', and begins with neither of the last two"
        ));
    }
    Ok(tag.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_said_is_docker_hub_s() {
        let hex = "0".repeat(64);
        for (text, whole, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
            ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("index.docker.io/library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("me/app", "docker.io/me/app:latest", "me/app:latest"),
            ("a/b/c:x", "docker.io/a/b/c:x", "a/b/c:x"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
            ("quay.io/a/b__c--d.e", "quay.io/a/b__c--d.e:latest", "quay.io/a/b__c--d.e:latest"),
            ("Host/app", "Host/app:latest", "Host/app:latest"),
        ] {
            let read = Reference::parse(text).unwrap();
            assert_eq!((read.to_string().as_str(), read.familiar().as_str()), (whole, familiar), "{text}");
        }
        let both = Reference::parse(&format!("alpine:3@sha256:{hex}")).unwrap();
        assert_eq!(both.to_string(), format!("docker.io/library/alpine:3@sha256:{hex}"));
        assert_eq!(both.version(), format!("sha256:{hex}"));
        assert_eq!(Reference::parse(&format!("alpine@sha256:{hex}")).unwrap().tag, None);
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        let long = "a".repeat(256);
        let long_tag = format!("a:{}", "b".repeat(129));
        let id = "0".repeat(64);
        for bad in [
            "",
            ":",
            "a:",
            ":a",
            "a:-x",
            "a:.x",
            "a:b c",
            "A",
            "a/B",
            "a//b",
            "/a",
            "a/",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a.-b",
            "a@",
            "a@sha256:x",
            "docker://alpine",
            "http://h/a",
            "h.x:port/a",
            "h.x:/a",
            "h.x:70000/a",
            "-h.x/a",
            "[::1/a",
            "[x]/a",
            "a b",
            "a\n",
            "a:b:c",
            "ä",
            &long,
            &long_tag,
            &id,
        ] {
            assert!(matches!(Reference::parse(bad), Err(Error::InvalidReference(_))), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_it_is_it_is_read_or_refused_and_read_again_alike(text in "\\PC{0,40}|[a-z0-9./:@_-]{0,40}") {
            if let Ok(read) = Reference::parse(&text) {
                prop_assert_eq!(&Reference::parse(&read.to_string()).unwrap(), &read);
                prop_assert_eq!(&Reference::parse(&read.familiar()).unwrap(), &read);
            }
        }
    }
}
