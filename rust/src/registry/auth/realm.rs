//! Which token server a registry may name: whoever could put another one there would be given the password (CVE-2026-33540). Pure.
//!
//! The policy. The realm's host is the registry's own (on any port); or one of them is a domain below the other's, since whoever has a
//! domain has what is below it; or the two are a pair that is known. It is https, or, where the registry is reached by http, http on the
//! very same host. Addresses are compared as they are.

use crate::registry::url::{Origin, Url};

/// Registries whose token server is beside them.
const PAIRS: [(&str, &str); 3] = [
    ("registry-1.docker.io", "auth.docker.io"),
    ("docker.elastic.co", "docker-auth.elastic.co"),
    ("registry.digitalocean.com", "api.digitalocean.com"),
];

pub fn check(registry: &Origin, realm: &str) -> Result<Url, String> {
    let url = Url::parse(realm)?;
    let (ours, theirs) = (registry.host.as_str(), url.origin.host.as_str());
    let is_same = ours == theirs;
    if !url.origin.is_https && (registry.is_https || !is_same) {
        return Err("it is not https".into());
    }
    let has_names = !registry.is_address() && !url.origin.is_address();
    let is_family = has_names && (is_below(ours, theirs) || is_below(theirs, ours));
    if is_same || is_family || PAIRS.contains(&(ours, theirs)) {
        return Ok(url);
    }
    Err("it is of another host, which is not known to belong to this registry".into())
}

/// A top-level domain has nobody below it who belongs to it.
fn is_below(host: &str, domain: &str) -> bool {
    domain.contains('.') && host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_people_are_told_the_password() {
        let https = |host: &str| Origin::of(host, true).unwrap();
        for (host, realm) in [
            ("registry-1.docker.io", "https://auth.docker.io/token"),
            ("quay.io", "https://quay.io/v2/auth"),
            ("r.example:5000", "https://r.example:5001/token"),
            ("registry.gitlab.com", "https://gitlab.com/jwt/auth"),
            ("r.example", "https://auth.r.example/token"),
            ("10.0.0.1:5000", "https://10.0.0.1/token"),
        ] {
            assert!(check(&https(host), realm).is_ok(), "{host} {realm}");
        }
        for (host, realm) in [
            ("r.example", "https://evil.example/token"),
            ("r.example", "http://r.example/token"),
            ("r.example", "https://example/token"),
            ("r.example", "https://evilr.example/token"),
            ("r.example", "https://r.example.evil.test/token"),
            ("r.example", "https://r.example@evil.test/token"),
            ("r.example", "https://evil.test/r.example"),
            ("quay.io", "https://auth.docker.io/token"),
            ("10.0.0.1", "https://0.0.1/token"),
            ("10.0.0.1", "https://10.0.0.2/token"),
            ("r.example", "file:///etc/passwd"),
            ("r.example", ""),
        ] {
            assert!(check(&https(host), realm).is_err(), "{host} {realm}");
        }
        let plain = Origin::of("localhost:5000", false).unwrap();
        assert!(check(&plain, "http://localhost:5001/token").is_ok());
        assert!(check(&plain, "http://127.0.0.1:5001/token").is_err());
    }
}
