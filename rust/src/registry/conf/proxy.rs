//! Which proxy, by the variables that everybody reads: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, in lower case too. Their content is in
//! no error: there may be a password in it.

use crate::error::{Error, Result};
use crate::registry::url::Origin;
use std::net::IpAddr;

/// For an origin. This machine itself is never asked through one.
pub fn of(origin: &Origin) -> Result<Option<ureq::Proxy>> {
    let get = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let either = |name: &str| get(&name.to_lowercase()).or_else(|| get(name));
    let name = if origin.is_https { "HTTPS_PROXY" } else { "HTTP_PROXY" };
    let Some(given) = either(name).or_else(|| either("ALL_PROXY")) else { return Ok(None) };
    if origin.is_loopback() || is_exempt(origin, &either("NO_PROXY").unwrap_or_default()) {
        return Ok(None);
    }
    let bad = |_| Error::Registry { text: format!("the variable {name} names no proxy"), status: None, code: None };
    ureq::Proxy::new(&given).map(Some).map_err(bad)
}

/// As Go reads NO_PROXY: `*`, hosts, `.domain` and `domain` (with all below it), addresses, networks; a port counts where it is said.
fn is_exempt(origin: &Origin, list: &str) -> bool {
    let host = origin.host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<IpAddr>().ok();
    list.split(',').map(|part| part.trim().to_ascii_lowercase()).filter(|part| !part.is_empty()).any(|part| {
        if part == "*" {
            return true;
        }
        if let (Some(address), Some((network, bits))) = (address, part.split_once('/')) {
            return is_within(address, network, bits);
        }
        let (name, port) = match part.rsplit_once(':') {
            Some((name, port)) if part.parse::<IpAddr>().is_err() => (name, port.parse::<u16>().ok()),
            _ => (part.as_str(), None),
        };
        if port.is_some_and(|port| port != origin.port) {
            return false;
        }
        let name = name.trim_start_matches('[').trim_end_matches(']').trim_start_matches('*');
        match (address, name.strip_prefix('.')) {
            (Some(address), _) => name.parse() == Ok(address),
            (None, Some(_)) => host.ends_with(name),
            (None, None) => host == name || host.ends_with(&format!(".{name}")),
        }
    })
}

fn is_within(address: IpAddr, network: &str, bits: &str) -> bool {
    let number = |address: IpAddr| match address {
        IpAddr::V4(four) => (u128::from(u32::from(four)), 32),
        IpAddr::V6(six) => (u128::from(six), 128),
    };
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let ((left, width), (right, other)) = (number(address), number(network));
    width == other && bits <= width && (bits == 0 || (left ^ right) >> (width - bits) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exemptions_are_go_s() {
        let is = |place: &str, list: &str| is_exempt(&Origin::of(place, true).unwrap(), list);
        for (place, list) in [
            ("a.example", "*"),
            ("a.example", "example"),
            ("a.example", ".example"),
            ("a.example", "a.example"),
            ("a.example", "x, *.example"),
            ("a.example:5000", "a.example:5000"),
            ("10.1.2.3", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3"),
            ("[fe80::1]", "fe80::/16"),
            ("[fe80::1]", "fe80::1"),
        ] {
            assert!(is(place, list), "{place} {list}");
        }
        for (place, list) in [
            ("a.example", ""),
            ("a.example", "b.example"),
            ("xa.example", "a.example"),
            ("example", ".example"),
            ("a.example:5000", "a.example:5001"),
            ("10.1.2.3", "11.0.0.0/8"),
            ("10.1.2.3", "10.0.0.0/64"),
            ("10.1.2.3", "::/0"),
            ("10.1.2.3", "2.3"),
        ] {
            assert!(!is(place, list), "{place} {list}");
        }
    }
}
