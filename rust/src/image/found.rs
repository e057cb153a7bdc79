//! From a name or a digest to one image: through indexes to the manifest of a platform, with its config. Reads the store, changes nothing.

use super::descriptor::{self, CONFIG_MAX, Config, Descriptor, Document, MANIFEST_MAX, Manifest, Platform, media};
use super::digest::{Digest, cut};
use super::reference::Reference;
use super::store::Store;
use crate::error::{Error, Result};

/// On a name's entry in the store's index: the digest of the index that its manifest was chosen from when it was pulled.
pub const CHOSEN_FROM: &str = "io.pycontainer.index";
/// An index in an index, as a layout's own index has them.
const DEPTH: usize = 4;

/// One image, with its documents as they are in the store.
#[derive(Debug, Clone)]
pub struct Found {
    pub descriptor: Descriptor,
    pub bytes: Vec<u8>,
    pub manifest: Manifest,
    pub config_bytes: Vec<u8>,
    pub config: Config,
}

/// None where there is no such name.
pub fn by_name(store: &Store, reference: &Reference, platform: &Platform) -> Result<Option<Found>> {
    let descriptor = match (&reference.digest, store.find(reference)?) {
        (_, Some(descriptor)) => descriptor,
        // A digest says all, whatever name it came with.
        (Some(digest), None) => match store.blob(digest, None)? {
            Some(blob) => bare(digest.clone(), blob.size),
            None => return Ok(None),
        },
        (None, None) => return Ok(None),
    };
    by_descriptor(store, &descriptor, platform).map(Some)
}

/// An error where a layer's blob is not there: such an image gets no name. To be asked by who is at work, or it may be gone right after.
pub fn check_layers(store: &Store, layers: &[Descriptor]) -> Result<()> {
    for layer in layers {
        if store.blob(&layer.digest, Some(layer.size))?.is_none() {
            return Err(Error::Image(format!("the store lacks {}: pull or load the image again", layer.digest)));
        }
    }
    Ok(())
}

/// A descriptor of what is known by its digest alone.
pub fn bare(digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: String::new(), digest, size, annotations: Default::default(), platform: None }
}

pub fn by_descriptor(store: &Store, descriptor: &Descriptor, platform: &Platform) -> Result<Found> {
    let mut descriptor = descriptor.clone();
    for _ in 0..DEPTH {
        let bytes = read(store, &descriptor, MANIFEST_MAX)?;
        match descriptor::document(&bytes, &descriptor.media_type)? {
            Document::Index(manifests) => descriptor = choose(&manifests, platform)?.clone(),
            Document::Manifest(manifest) => return open(store, descriptor, bytes, manifest),
        }
    }
    Err(Error::Image(format!("{}: indexes in indexes, more than {DEPTH} deep", descriptor.digest)))
}

fn open(store: &Store, mut descriptor: Descriptor, bytes: Vec<u8>, manifest: Manifest) -> Result<Found> {
    let config_bytes = read(store, &manifest.config, CONFIG_MAX)?;
    let config = descriptor::config(&config_bytes)?;
    if config.diff_ids.len() != manifest.layers.len() {
        let (layers, ids) = (manifest.layers.len(), config.diff_ids.len());
        let what = format!("{}: its manifest has {layers} layers and its config {ids}", descriptor.digest);
        return Err(Error::Image(what));
    }
    if descriptor.media_type.is_empty() {
        // A name is written with it: others find nothing by a descriptor that has none.
        let by_config = if manifest.config.media_type == media::DOCKER_CONFIG {
            media::DOCKER_MANIFEST
        } else {
            media::OCI_MANIFEST
        };
        let own = &manifest.media_type;
        descriptor.media_type = if own.is_empty() { by_config.into() } else { own.clone() };
    }
    Ok(Found { descriptor, bytes, manifest, config_bytes, config })
}

fn read(store: &Store, descriptor: &Descriptor, most: u64) -> Result<Vec<u8>> {
    let digest = &descriptor.digest;
    let bytes = store.read(digest, most)?;
    let bytes = bytes.ok_or_else(|| Error::Image(format!("the store lacks {digest}: pull or load the image again")))?;
    if bytes.len() as u64 != descriptor.size {
        let (found, said) = (bytes.len(), descriptor.size);
        return Err(Error::DigestMismatch(format!("{digest} has {found} bytes, and {said} were promised")));
    }
    Ok(bytes)
}

/// The manifest of a platform; the only one there is where none says its own.
pub fn choose<'a>(manifests: &'a [Descriptor], platform: &Platform) -> Result<&'a Descriptor> {
    let best = manifests.iter().filter_map(|one| Some((rank(one.platform.as_ref()?, platform)?, one)));
    if let Some((_, found)) = best.min_by_key(|(rank, _)| *rank) {
        return Ok(found);
    }
    match manifests {
        [only] if only.platform.is_none() => Ok(only),
        _ => {
            let there: Vec<String> = manifests.iter().filter_map(|one| Some(shown(one.platform.as_ref()?))).collect();
            let there = if there.is_empty() { "none with a platform".into() } else { cut(&there.join(", ")) };
            Err(Error::ImageNotFound(format!("no manifest for {}; there are: {there}", shown(platform))))
        }
    }
}

pub fn shown(platform: &Platform) -> String {
    match &platform.variant {
        Some(variant) => format!("{}/{}/{variant}", platform.os, platform.architecture),
        None => format!("{}/{}", platform.os, platform.architecture),
    }
}

/// Whether a machine of one platform runs what is for another.
pub fn runs(offered: &Platform, wanted: &Platform) -> bool {
    rank(offered, wanted).is_some()
}

/// None where it cannot run; the lower the better. arm64 is its v8, and an older arm runs on a newer one.
fn rank(offered: &Platform, wanted: &Platform) -> Option<u32> {
    if offered.os != wanted.os || offered.architecture != wanted.architecture {
        return None;
    }
    let plain = |platform: &Platform| {
        let default = match platform.architecture.as_str() {
            "arm64" => "v8",
            "arm" => "v7",
            "amd64" => "v1",
            _ => "",
        };
        let variant = platform.variant.clone().filter(|variant| !variant.is_empty());
        variant.unwrap_or_else(|| default.into())
    };
    let (offered, wanted_variant) = (plain(offered), plain(wanted));
    if offered == wanted_variant {
        return Some(0);
    }
    let level = |text: &str| text.strip_prefix('v')?.parse::<u32>().ok();
    let (offered, most) = (level(&offered)?, level(&wanted_variant)?);
    (wanted.architecture != "arm64" && offered < most).then(|| most - offered)
}

/// `os/architecture[/variant]`, or an architecture alone, as docker's --platform.
pub fn parse_platform(text: &str) -> Result<Platform> {
    let bad = || Error::Value(format!("platform {:?} is not os/architecture or os/architecture/variant", cut(text)));
    let parts: Vec<&str> = text.split('/').collect();
    let word = |part: &&str| {
        let first = part.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        first && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    if !parts.iter().all(word) {
        return Err(bad());
    }
    let (os, architecture, variant) = match parts[..] {
        ["linux"] => return Ok(native()),
        [architecture] => ("linux", architecture, None),
        [os, architecture] => (os, architecture, None),
        [os, architecture, variant] => (os, architecture, Some(variant)),
        _ => return Err(bad()),
    };
    let architecture = architecture.to_lowercase();
    let (architecture, variant) = match (&*architecture, variant) {
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64", variant) => ("arm64", variant),
        ("i386", variant) => ("386", variant),
        ("armhf", None) => ("arm", Some("v7")),
        ("armel", None) => ("arm", Some("v6")),
        other => other,
    };
    Ok(Platform { os: os.to_lowercase(), architecture: architecture.into(), variant: variant.map(str::to_string) })
}

/// What this machine runs.
pub fn native() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Platform { os: "linux".into(), architecture: architecture.into(), variant: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Descriptor {
        let platform = Some(parse_platform(text).unwrap());
        Descriptor { platform, ..bare(Digest::of(text.as_bytes()), 1) }
    }

    #[test]
    fn the_best_that_runs_is_chosen() {
        let all = ["linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", "windows/amd64"].map(of);
        let chosen = |text: &str| choose(&all, &parse_platform(text).unwrap()).map(|found| found.digest.clone());
        for (wanted, found) in [
            ("amd64", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64"),
            ("x86_64", "linux/amd64"),
            ("arm64", "linux/arm64/v8"),
            ("arm", "linux/arm/v7"),
            ("linux/arm/v8", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(chosen(wanted).unwrap(), of(found).digest, "{wanted}");
        }
        let error = chosen("linux/s390x").unwrap_err().to_string();
        assert!(error.contains("linux/arm/v6"), "{error}");
        assert!(choose(&[bare(Digest::of(b"x"), 1)], &native()).is_ok());
        assert!(choose(&[], &native()).is_err());
    }

    #[test]
    fn a_platform_is_words_between_slashes() {
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/am d64", "../x"] {
            assert!(matches!(parse_platform(bad), Err(Error::Value(_))), "{bad}");
        }
    }
}
