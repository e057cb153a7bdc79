use super::*;

fn hex(letter: char) -> String {
    format!("sha256:{}", letter.to_string().repeat(64))
}

fn manifest_text() -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{}","size":2}},
            "layers":[{{"mediaType":"{}","digest":"{}","size":3,"urls":["http://elsewhere/"]}}]}}"#,
        media::OCI_MANIFEST,
        media::OCI_CONFIG,
        hex('a'),
        media::OCI_LAYER_GZIP,
        hex('b')
    )
}

#[test]
fn a_manifest_is_read() {
    let Document::Manifest(read) = document(manifest_text().as_bytes(), "").unwrap() else { panic!("no manifest") };
    assert_eq!((read.config.size, read.layers.len()), (2, 1));
    assert_eq!(read.layers[0].digest.to_string(), hex('b'));
}

#[test]
fn what_two_readers_could_take_in_two_ways_is_refused() {
    let good = manifest_text();
    let both = good.replacen("\"config\"", "\"manifests\":[],\"config\"", 1);
    for (text, said) in [
        (both.as_str(), ""),
        (good.as_str(), media::OCI_INDEX),
        (good.as_str(), media::DOCKER_MANIFEST),
        ("{\"schemaVersion\":2}", ""),
        ("{\"schemaVersion\":1,\"fsLayers\":[]}", ""),
        ("{\"schemaVersion\":3,\"manifests\":[]}", ""),
        ("[]", ""),
        ("", ""),
        ("{", ""),
    ] {
        assert!(matches!(document(text.as_bytes(), said), Err(Error::Image(_))), "{text} {said}");
    }
}

#[test]
fn artifacts_and_unknown_layers_are_refused_by_name() {
    let artifact = manifest_text().replace(media::OCI_CONFIG, "application/vnd.cncf.helm.config.v1+json");
    let error = document(artifact.as_bytes(), "").unwrap_err().to_string();
    assert!(error.contains("helm"), "{error}");
    let foreign =
        manifest_text().replace(media::OCI_LAYER_GZIP, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    let error = document(foreign.as_bytes(), "").unwrap_err().to_string();
    assert!(error.contains("foreign"), "{error}");
}

#[test]
fn sizes_counts_and_depths_have_bounds() {
    let deep = format!("{{\"schemaVersion\":2,\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(document(deep.as_bytes(), "").is_err());
    let layer = format!("{{\"mediaType\":\"{}\",\"digest\":\"{}\",\"size\":3}}", media::OCI_LAYER, hex('b'));
    let many = vec![layer; LAYERS_MAX + 1].join(",");
    let text = format!(
        "{{\"schemaVersion\":2,\"config\":{{\"mediaType\":\"{}\",\"digest\":\"{}\",\"size\":2}},\"layers\":[{many}]}}",
        media::OCI_CONFIG,
        hex('a')
    );
    assert!(document(text.as_bytes(), "").unwrap_err().to_string().contains("501 layers"));
    let big = vec![b' '; MANIFEST_MAX as usize + 1];
    assert!(document(&big, "").is_err());
    let negative = manifest_text().replace("\"size\":3", "\"size\":-3");
    assert!(document(negative.as_bytes(), "").is_err());
}

#[test]
fn a_config_has_its_layers() {
    let text =
        format!(r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#, hex('c'));
    let read = config(text.as_bytes()).unwrap();
    assert_eq!((read.platform.os.as_str(), read.diff_ids.len()), ("linux", 1));
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"rootfs":{"diff_ids":["x"]}}"#,
        r#"{"rootfs":{},"config":[]}"#,
        r#"{"rootfs":{},"history":{}}"#,
    ] {
        assert!(matches!(config(bad.as_bytes()), Err(Error::Image(_))), "{bad}");
    }
}
