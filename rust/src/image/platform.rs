//! Which manifest of an index is for a machine: as containerd chooses. Pure.

use super::descriptor::{Descriptor, Platform};
use super::digest::cut;
use crate::error::{Error, Result};

/// This machine's, by the names that Go has for it.
pub fn native() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "aarch64" => ("arm64", Some("v8")),
        "arm" => ("arm", Some("v7")),
        "x86" => ("386", None),
        "powerpc64" => ("ppc64le", None),
        other => (other, None),
    };
    Platform { os: "linux".into(), architecture: architecture.into(), variant: variant.map(String::from) }
}

/// `os/architecture[/variant]`, or an architecture alone; names that people use are read as Go's.
pub fn parse(text: &str) -> Result<Platform> {
    let bad = || Error::Value(format!("platform: {:?} is not like linux/amd64 or linux/arm/v7", cut(text)));
    let parts: Vec<&str> = text.split('/').collect();
    let is_word = |part: &&str| {
        let inner = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        inner && part.starts_with(|first: char| first.is_ascii_alphanumeric())
    };
    let (os, architecture, variant) = match parts[..] {
        _ if !parts.iter().all(is_word) => return Err(bad()),
        [architecture] => ("linux", architecture, None),
        [os, architecture] => (os, architecture, None),
        [os, architecture, variant] => (os, architecture, Some(variant)),
        _ => return Err(bad()),
    };
    let platform = Platform {
        os: os.to_lowercase(),
        architecture: architecture.to_lowercase(),
        variant: variant.map(str::to_lowercase),
    };
    Ok(normal(&platform))
}

pub fn show(platform: &Platform) -> String {
    let variant = platform.variant.as_ref().map_or(String::new(), |variant| format!("/{variant}"));
    format!("{}/{}{variant}", platform.os, platform.architecture)
}

fn normal(platform: &Platform) -> Platform {
    let variant = platform.variant.as_deref().unwrap_or_default();
    let (architecture, variant) = match (platform.architecture.as_str(), variant) {
        ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "" | "8" | "v8") => ("arm64", "v8"),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("i386", _) => ("386", ""),
        (architecture, variant) => (architecture, variant),
    };
    let variant = (!variant.is_empty()).then(|| variant.to_string());
    Platform { os: platform.os.clone(), architecture: architecture.into(), variant }
}

/// How well a machine of `wanted` runs what is for `offered`: more is better, None is not at all.
fn rank(wanted: &Platform, offered: &Platform) -> Option<u32> {
    let (wanted, offered) = (normal(wanted), normal(offered));
    if wanted.os != offered.os || wanted.architecture != offered.architecture {
        return None;
    }
    if wanted.variant == offered.variant {
        return Some(u32::MAX);
    }
    let number = |platform: &Platform| {
        platform.variant.as_deref().map_or(Some(1), |variant| variant.strip_prefix('v')?.parse::<u32>().ok())
    };
    let (ours, theirs) = (number(&wanted)?, number(&offered)?);
    // An ARM of version 7 runs what is for 6 and 5; an x86-64 of v3 what is for v2 and v1.
    let goes_down = matches!(wanted.architecture.as_str(), "arm" | "amd64" | "arm64");
    (goes_down && theirs < ours).then_some(theirs)
}

pub fn fits(wanted: &Platform, offered: &Platform) -> bool {
    rank(wanted, offered).is_some()
}

/// The best of an index, the first of equals. An attestation says that it is for "unknown/unknown", and fits nothing.
pub fn choose<'d>(manifests: &'d [Descriptor], wanted: &Platform) -> Option<&'d Descriptor> {
    let ranked = manifests.iter().filter_map(|one| Some((rank(wanted, one.platform.as_ref()?)?, one)));
    ranked.rev().max_by_key(|(rank, _)| *rank).map(|(_, one)| one)
}

/// For an error: what there is instead.
pub fn list(manifests: &[Descriptor]) -> String {
    let names =
        manifests.iter().filter_map(|one| one.platform.as_ref()).filter(|one| one.os != "unknown").take(20).map(show);
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::digest::Digest;
    use super::*;

    fn index(platforms: &[&str]) -> Vec<Descriptor> {
        let one = |text: &&str| {
            let parts: Vec<&str> = text.split('/').collect();
            let variant = parts.get(2).map(|part| part.to_string());
            let platform = Some(Platform { os: parts[0].into(), architecture: parts[1].into(), variant });
            Descriptor {
                media_type: String::new(),
                digest: Digest::of(text.as_bytes()),
                size: 1,
                annotations: [].into(),
                platform,
            }
        };
        platforms.iter().map(one).collect()
    }

    fn chosen(platforms: &[&str], wanted: &str) -> Option<String> {
        let manifests = index(platforms);
        choose(&manifests, &parse(wanted).unwrap()).map(|one| show(one.platform.as_ref().unwrap()))
    }

    #[test]
    fn variants_are_chosen_as_containerd_does() {
        let all = [
            "unknown/unknown",
            "linux/arm/v5",
            "linux/arm/v6",
            "linux/arm/v7",
            "linux/arm64",
            "linux/amd64",
            "windows/amd64",
        ];
        for (wanted, found) in [
            ("linux/amd64", "linux/amd64"),
            ("amd64", "linux/amd64"),
            ("x86_64", "linux/amd64"),
            ("linux/arm64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/arm/v8", "linux/arm/v7"),
            ("windows/amd64", "windows/amd64"),
            ("linux/amd64/v3", "linux/amd64"),
        ] {
            assert_eq!(chosen(&all, wanted).as_deref(), Some(found), "{wanted}");
        }
        assert_eq!(chosen(&all[..3], "linux/arm").as_deref(), Some("linux/arm/v6"));
        assert_eq!(chosen(&["linux/arm/v7"], "linux/arm/v6"), None);
        assert_eq!(chosen(&all, "linux/s390x"), None);
    }

    #[test]
    fn a_platform_is_words() {
        for bad in ["", "/", "a/", "linux/amd64/v1/x", "linux/a b", "linux/../x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(show(&parse("linux/armhf").unwrap()), "linux/arm/v7");
    }
}
