//! The config and the manifest of an image that comes from another one, or from nothing. Pure: the same input, the same bytes.

use super::commit::Layer;
use super::descriptor::{CONFIG_MAX, Descriptor, LAYERS_MAX, Platform, media};
use super::digest::Digest;
use super::found::native;
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};

/// What it comes from.
#[derive(Debug, Clone)]
pub struct Base {
    pub config: Vec<u8>,
    pub layers: Vec<Descriptor>,
}

/// What was done to it.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// Seconds since 1970.
    pub created: i64,
    pub created_by: String,
    pub comment: String,
    /// Of the config's `config`, by its names; null takes one away.
    pub changes: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
}

/// Of the container that a parent was committed from, and of docker's first registry: they say nothing of this image.
const PARENTS_OWN: [&str; 5] = ["container", "container_config", "docker_version", "id", "parent"];

/// Without a layer nothing but the config is new.
pub fn compose(base: Option<&Base>, layer: Option<&Layer>, step: &Step) -> Result<Composed> {
    let mut config = match base {
        Some(base) => serde_json::from_slice(&base.config).map_err(|error| unreadable(&error.to_string()))?,
        None => from_nothing(),
    };
    PARENTS_OWN.iter().for_each(|key| drop(config.remove(*key)));
    let created = Value::from(rfc3339(step.created));
    config.insert("created".into(), created.clone());
    let inner = object(&mut config, "config")?;
    for (key, value) in &step.changes {
        match value {
            Value::Null => drop(inner.remove(key)),
            value => drop(inner.insert(key.clone(), value.clone())),
        }
    }
    let mut entry = json!({"created": created, "created_by": step.created_by});
    if !step.comment.is_empty() {
        entry["comment"] = Value::from(step.comment.clone());
    }
    if layer.is_none() {
        entry["empty_layer"] = Value::from(true);
    }
    list(&mut config, "history")?.push(entry);
    let root = object(&mut config, "rootfs")?;
    root.insert("type".into(), Value::from("layers"));
    let diff_ids = list(root, "diff_ids")?;
    let mut layers: Vec<Value> = Vec::new();
    for below in base.map_or(&[][..], |base| &base.layers) {
        layers.push(described(below, oci_layer(&below.media_type)?));
    }
    if diff_ids.len() != layers.len() {
        return Err(unreadable(&format!("it names {} layers, and its manifest {}", diff_ids.len(), layers.len())));
    }
    if let Some(layer) = layer {
        diff_ids.push(Value::from(layer.diff_id.to_string()));
        layers.push(described(&layer.descriptor, &layer.descriptor.media_type));
    }
    if layers.len() > LAYERS_MAX {
        return Err(Error::Image(format!("{} layers; the kernel's overlay takes {LAYERS_MAX}", layers.len())));
    }
    let config = Value::Object(config).to_string().into_bytes();
    if config.len() as u64 > CONFIG_MAX {
        return Err(Error::Image(format!("a config of {} bytes; {CONFIG_MAX} are the most", config.len())));
    }
    let digest = Digest::of(&config).to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": {"mediaType": media::OCI_CONFIG, "digest": digest, "size": config.len()},
        "layers": layers,
    });
    Ok(Composed { config, manifest: manifest.to_string().into_bytes() })
}

fn unreadable(why: &str) -> Error {
    Error::Image(format!("the parent's config: {why}"))
}

fn from_nothing() -> Map<String, Value> {
    let Platform { os, architecture, variant } = native();
    let mut config = Map::new();
    config.insert("architecture".into(), Value::from(architecture));
    config.insert("os".into(), Value::from(os));
    config.extend(variant.map(|variant| ("variant".into(), Value::from(variant))));
    config
}

/// Go writes an empty one as null.
fn object<'a>(of: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Map<String, Value>> {
    let value = of.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().ok_or_else(|| unreadable(&format!("its {key} is no object")))
}

fn list<'a>(of: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Vec<Value>> {
    let value = of.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().ok_or_else(|| unreadable(&format!("its {key} is no list")))
}

fn described(layer: &Descriptor, media_type: &str) -> Value {
    let mut made = json!({"mediaType": media_type, "digest": layer.digest.to_string(), "size": layer.size});
    if !layer.annotations.is_empty() {
        made["annotations"] = json!(layer.annotations);
    }
    made
}

/// A manifest has one family of types.
fn oci_layer(media_type: &str) -> Result<&'static str> {
    Ok(match media_type {
        media::OCI_LAYER | media::DOCKER_LAYER => media::OCI_LAYER,
        media::OCI_LAYER_GZIP | media::DOCKER_LAYER_GZIP => media::OCI_LAYER_GZIP,
        media::OCI_LAYER_ZSTD | media::DOCKER_LAYER_ZSTD => media::OCI_LAYER_ZSTD,
        other => return Err(Error::Image(format!("a layer of type {other:?}"))),
    })
}

/// Whole seconds in UTC, by the calendar that counts from 0000-03-01 (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
pub fn rfc3339(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400) + 719_468, seconds.rem_euclid(86_400));
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (year + era * 400 + i64::from(month >= 10), if month < 10 { month + 3 } else { month - 9 });
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn descriptor(media_type: &str, text: &str) -> Descriptor {
        let (media_type, digest) = (media_type.into(), Digest::of(text.as_bytes()));
        Descriptor { media_type, digest, size: text.len() as u64, annotations: BTreeMap::new(), platform: None }
    }

    fn layer(text: &str) -> Layer {
        Layer { descriptor: descriptor(media::OCI_LAYER_GZIP, text), diff_id: Digest::of(b"tar") }
    }

    fn parsed(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn times_are_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_210_096, "2024-02-29T12:34:56Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

    #[test]
    fn from_nothing_there_is_one_layer_for_this_machine() {
        let made = compose(None, Some(&layer("blob")), &Step { created_by: "x".into(), ..Step::default() }).unwrap();
        let (config, manifest) = (parsed(&made.config), parsed(&made.manifest));
        assert_eq!(config["os"], "linux");
        assert_eq!(config["rootfs"]["diff_ids"], json!([Digest::of(b"tar").to_string()]));
        assert_eq!(config["history"], json!([{"created": "1970-01-01T00:00:00Z", "created_by": "x"}]));
        assert_eq!(manifest["layers"][0]["digest"], Digest::of(b"blob").to_string());
        assert_eq!(manifest["config"]["digest"], Digest::of(&made.config).to_string());
        let read = super::super::descriptor::config(&made.config).unwrap();
        assert_eq!((read.platform, read.diff_ids.len()), (native(), 1));
        assert!(super::super::descriptor::document(&made.manifest, media::OCI_MANIFEST).is_ok());
    }

    #[test]
    fn a_parent_is_kept_but_for_what_was_its_own() {
        let parent = json!({
            "architecture": "s390x", "os": "linux", "container": "1234", "author": "somebody", "x-unknown": [1],
            "config": {"Env": ["A=1"], "Cmd": ["old"], "User": "1"},
            "history": [{"created_by": "first"}, {"created_by": "second", "empty_layer": true}],
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"below").to_string()]},
        });
        let base = Base {
            config: parent.to_string().into_bytes(),
            layers: vec![descriptor(media::DOCKER_LAYER_GZIP, "below")],
        };
        let changes = json!({"Cmd": ["new"], "User": null});
        let step = Step { changes: changes.as_object().unwrap().clone(), comment: "why".into(), ..Step::default() };
        let made = compose(Some(&base), Some(&layer("blob")), &step).unwrap();
        let (config, manifest) = (parsed(&made.config), parsed(&made.manifest));
        assert_eq!(config["config"], json!({"Env": ["A=1"], "Cmd": ["new"]}));
        assert_eq!((&config["architecture"], &config["author"]), (&json!("s390x"), &json!("somebody")));
        assert_eq!((config.get("container"), &config["x-unknown"]), (None, &json!([1])));
        assert_eq!((config["history"].as_array().unwrap().len(), &config["history"][2]["comment"]), (3, &json!("why")));
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
        assert_eq!(manifest["layers"][0]["mediaType"], media::OCI_LAYER_GZIP, "types of one family");
        assert_eq!(compose(Some(&base), Some(&layer("blob")), &step).unwrap(), made, "the same input, the same bytes");
        let unchanged = compose(Some(&base), None, &step).unwrap();
        assert_eq!(parsed(&unchanged.config)["history"][2]["empty_layer"], true);
        assert_eq!(parsed(&unchanged.manifest)["layers"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_parent_that_makes_no_sense_is_refused() {
        let base = |config: &str| Base { config: config.into(), layers: Vec::new() };
        for config in ["", "[]", "{\"config\": 1}", "{\"history\": {}}", "{\"rootfs\": {\"diff_ids\": [1]}}"] {
            assert!(compose(Some(&base(config)), None, &Step::default()).is_err(), "{config}");
        }
        assert!(compose(Some(&base("{\"config\": null, \"history\": null}")), None, &Step::default()).is_ok());
    }
}
