//! The documents of an image: descriptors, manifests and indexes, read within limits. Pure: bytes in, values out, never written again.
//!
//! OCI image specification and docker's schema 2, which say the same with other media types. What a digest was taken of are the bytes: a
//! document is kept and sent as it came.

use super::digest::{Digest, cut};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Bytes of a manifest or index, as registries take it (distribution: 4 MiB), and of a config.
pub const MANIFEST_MAX: u64 = 4 << 20;
pub const CONFIG_MAX: u64 = 8 << 20;
/// The kernel's overlay takes as many (OVL_MAX_STACK).
pub const LAYERS_MAX: usize = 500;
const MANIFESTS_MAX: usize = 1000;

pub mod media {
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

    /// What a registry is asked for.
    pub const MANIFESTS: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

    pub fn is_index(kind: &str) -> bool {
        matches!(kind, OCI_INDEX | DOCKER_LIST)
    }

    pub fn is_manifest(kind: &str) -> bool {
        matches!(kind, OCI_MANIFEST | DOCKER_MANIFEST)
    }

    pub fn is_config(kind: &str) -> bool {
        matches!(kind, OCI_CONFIG | DOCKER_CONFIG)
    }

    /// A layer that we take. Foreign ones (`urls`) are not: nothing is fetched from where a manifest says (CVE-2020-15157).
    pub fn is_layer(kind: &str) -> bool {
        matches!(
            kind,
            OCI_LAYER | OCI_LAYER_GZIP | OCI_LAYER_ZSTD | DOCKER_LAYER | DOCKER_LAYER_GZIP | DOCKER_LAYER_ZSTD
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    pub annotations: BTreeMap<String, String>,
    pub platform: Option<Platform>,
}

/// GOOS and GOARCH names: "linux", "amd64", "v8".
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    #[serde(default)]
    pub variant: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: u64,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<RawDescriptor>,
    #[serde(default)]
    layers: Option<Vec<RawDescriptor>>,
    #[serde(default)]
    manifests: Option<Vec<RawDescriptor>>,
    // Docker's schema 1, which had no digests of what it named.
    #[serde(default, rename = "fsLayers")]
    fs_layers: Option<Value>,
}

impl RawDescriptor {
    fn checked(self, what: &str) -> Result<Descriptor> {
        if i64::try_from(self.size).is_err() {
            return Err(Error::Image(format!("{what} has a size of {} bytes", self.size)));
        }
        let annotations = self.annotations.unwrap_or_default();
        let digest = Digest::parse(&self.digest)?;
        Ok(Descriptor { media_type: self.media_type, digest, size: self.size, annotations, platform: self.platform })
    }
}

/// One by itself, of an index that others write to.
pub fn descriptor(value: &Value) -> Result<Descriptor> {
    let raw = RawDescriptor::deserialize(value);
    raw.map_err(|error| Error::Image(format!("a descriptor that cannot be read: {error}")))?.checked("it")
}

/// `said`: the media type that the descriptor, or the registry, gave it; "" where nobody did.
pub fn document(bytes: &[u8], said: &str) -> Result<Document> {
    if bytes.len() as u64 > MANIFEST_MAX {
        return Err(Error::Image(format!("a manifest of {} bytes; {MANIFEST_MAX} are the most", bytes.len())));
    }
    let raw: RawDocument = serde_json::from_slice(bytes)
        .map_err(|error| Error::Image(format!("a manifest that cannot be read: {error}")))?;
    if raw.fs_layers.is_some() || raw.schema_version == 1 {
        return Err(Error::Image(
            "a manifest of docker's schema 1, which is no longer supported: push the image again".into(),
        ));
    }
    if raw.schema_version != 2 {
        return Err(Error::Image(format!("a manifest of schema {}", raw.schema_version)));
    }
    let kind = media_type(&raw, said)?;
    // One document must not be two to two readers (CVE-2021-41190).
    match (raw.manifests, raw.config, raw.layers) {
        (Some(manifests), None, None) if kind.is_empty() || media::is_index(&kind) => index(manifests),
        (None, Some(config), Some(layers)) if kind.is_empty() || media::is_manifest(&kind) => {
            manifest(kind, raw.artifact_type, config, layers)
        }
        _ if !kind.is_empty() && !media::is_index(&kind) && !media::is_manifest(&kind) => {
            Err(Error::Image(format!("a document of type {:?}, which is no image", cut(&kind))))
        }
        _ => Err(Error::Image("a manifest that is neither an index nor an image, or both".into())),
    }
}

fn media_type(raw: &RawDocument, said: &str) -> Result<String> {
    match raw.media_type.as_deref().unwrap_or_default() {
        "" => Ok(said.into()),
        own if said.is_empty() || own == said => Ok(own.into()),
        own => Err(Error::Image(format!("a manifest that is {:?} by itself and {:?} elsewhere", cut(own), cut(said)))),
    }
}

fn index(raw: Vec<RawDescriptor>) -> Result<Document> {
    if raw.len() > MANIFESTS_MAX {
        return Err(Error::Image(format!("an index of {} manifests; {MANIFESTS_MAX} are the most", raw.len())));
    }
    raw.into_iter().map(|raw| raw.checked("a manifest")).collect::<Result<_>>().map(Document::Index)
}

fn manifest(
    kind: String,
    artifact: Option<String>,
    config: RawDescriptor,
    layers: Vec<RawDescriptor>,
) -> Result<Document> {
    let config = config.checked("the config")?;
    if !media::is_config(&config.media_type) {
        let what = artifact.filter(|text| !text.is_empty()).unwrap_or_else(|| config.media_type.clone());
        return Err(Error::Image(format!("it is no image but an artifact of type {:?}", cut(&what))));
    }
    if config.size > CONFIG_MAX {
        return Err(Error::Image(format!("a config of {} bytes; {CONFIG_MAX} are the most", config.size)));
    }
    if layers.len() > LAYERS_MAX {
        return Err(Error::Image(format!("{} layers; the kernel's overlay takes {LAYERS_MAX}", layers.len())));
    }
    let layers = layers.into_iter().map(|raw| {
        let layer = raw.checked("a layer")?;
        let known = media::is_layer(&layer.media_type);
        known.then_some(()).ok_or_else(|| {
            Error::Image(format!("a layer of type {:?}, which is not understood", cut(&layer.media_type)))
        })?;
        Ok(layer)
    });
    let media_type = if kind.is_empty() { media::OCI_MANIFEST.into() } else { kind };
    Ok(Document::Manifest(Manifest { media_type, config, layers: layers.collect::<Result<_>>()? }))
}

/// What is read of a config; the rest of it is the reader's to interpret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub platform: Platform,
    /// Of each layer's tar, the lowest first.
    pub diff_ids: Vec<Digest>,
}

pub fn config(bytes: &[u8]) -> Result<Config> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default)]
        os: String,
        #[serde(default)]
        architecture: String,
        #[serde(default)]
        variant: Option<String>,
        rootfs: RootFs,
        #[serde(default)]
        config: Option<serde_json::Map<String, Value>>,
        #[serde(default)]
        history: Option<Vec<serde_json::Map<String, Value>>>,
    }
    #[derive(Deserialize)]
    struct RootFs {
        #[serde(default)]
        diff_ids: Option<Vec<String>>,
    }
    if bytes.len() as u64 > CONFIG_MAX {
        return Err(Error::Image(format!("a config of {} bytes; {CONFIG_MAX} are the most", bytes.len())));
    }
    let raw: Raw = serde_json::from_slice(bytes)
        .map_err(|error| Error::Image(format!("a config that cannot be read: {error}")))?;
    let _ = (raw.config, raw.history); // their kinds are checked, their content is not needed here
    let platform = Platform { os: raw.os, architecture: raw.architecture, variant: raw.variant };
    let diff_ids = raw.rootfs.diff_ids.unwrap_or_default();
    let diff_ids = diff_ids.iter().map(|text| Digest::parse(text)).collect::<Result<Vec<_>>>()?;
    Ok(Config { platform, diff_ids })
}

#[cfg(test)]
mod tests;
