//! What a fuzzer calls: text of registries and of their configuration, through the code that reads it. Nobody is asked.

use super::auth::{challenge, realm, token};
use super::conf::registries::Registries;
use super::url::{Origin, Url};
use super::{answers, auth};
use crate::image::reference::Reference;
use std::time::Instant;
use ureq::http::{HeaderMap, HeaderValue};

/// The first line as each of the headers that are read; all of it as the body of an error and of a token server's answer.
pub fn answers(bytes: &[u8]) {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let _ = (answers::error(bytes), token::parse(bytes, Instant::now()));
    let Ok(value) = HeaderValue::from_bytes(line) else { return };
    let mut headers = HeaderMap::new();
    for name in ["retry-after", "link", "content-range", "content-type"] {
        headers.insert(name, value.clone());
    }
    let _ = (answers::retry_after(&headers, 0), answers::media_type(&headers));
    if let Some((first, last, total)) = answers::content_range(&headers) {
        assert!(first <= last && total.is_none_or(|total| last < total));
    }
    let here = Url::parse("https://registry.example/v2/a/b/tags/list").unwrap_or_else(|why| panic!("{why}"));
    if let Some(target) = answers::next_page(&headers) {
        let _ = here.join(&target);
    }
    let Ok(text) = std::str::from_utf8(line) else { return };
    if let Some(plain) = auth::from_base64(text) {
        let _ = auth::base64(&plain);
    }
    for challenge in challenge::parse(text).unwrap_or_default() {
        let registry = Origin::of("registry.example", true).unwrap_or_else(|| panic!("a name that is none"));
        let _ = challenge.get("realm").map(|realm| realm::check(&registry, realm));
        let asked = token::scope("repository:a/b:pull", challenge.get("scope"));
        assert!(asked.iter().all(|scope| !scope.contains("push")), "{asked:?}");
    }
}

/// A file of it, and where some names are looked for then.
pub fn registries(bytes: &[u8]) {
    let Some(found) = std::str::from_utf8(bytes).ok().and_then(|text| Registries::parse(text).ok()) else { return };
    for name in ["alpine", "registry.example/a/b:1", "registry.example:5000/a", "docker.io/library/alpine:3"] {
        if let Ok(reference) = Reference::parse(name) {
            let _ = (found.sources(&reference), found.destination(&reference));
        }
    }
}
