//! Layers through a real store: what becomes of whiteouts, of blobs that are not what they should be, and of many at once.

use super::*;
use crate::image::archive::samples::{Scratch, archive, entry};
use crate::image::descriptor::media;
use crate::image::digest::Algorithm;
use proptest::prelude::*;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(data).unwrap();
    packer.finish().unwrap()
}

/// The blob in the store, and the digest of what is in it.
fn layer(store: &Store, tar: &[u8], packed: &[u8], media_type: &str) -> (Descriptor, Digest) {
    let mut ingest = store.ingest(Algorithm::Sha256).unwrap();
    ingest.take(packed).unwrap();
    let (size, digest) = (ingest.size(), ingest.commit(None).unwrap());
    let blob =
        Descriptor { media_type: media_type.into(), digest, size, annotations: Default::default(), platform: None };
    (blob, Digest::of(tar))
}

fn opaque(path: &std::path::Path) -> bool {
    let name = if rustix::process::geteuid().is_root() { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
    let mut value = [0; 4];
    rustix::fs::getxattr(path, name, &mut value).is_ok_and(|length| &value[..length] == b"y")
}

fn is_whiteout(path: &std::path::Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|seen| seen.file_type().is_char_device() && seen.rdev() == 0)
}

#[test]
fn a_tree_that_a_program_shows_has_one_name_for_each_file() {
    use crate::image::unions::{Kind, tree};
    let scratch = Scratch::new();
    let store = Store::open(&scratch.0.join("store")).unwrap();
    let tar = archive(&[
        entry(b'0', b"d/file", b"", b"content"),
        entry(b'1', b"a", b"d/file", b""),
        entry(b'1', b"z", b"d/file", b""),
        entry(b'0', b"single", b"", b"x"),
    ]);
    let (blob, diff_id) = layer(&store, &tar, &gzip(&tar), media::OCI_LAYER_GZIP);
    let below = unpack_layer(&store, &blob, &diff_id, &mut || false).unwrap();
    let inodes = |root: &std::path::Path| {
        ["a", "d/file", "z", "single"].map(|name| std::fs::metadata(root.join(name)).unwrap().ino())
    };
    let [a, file, z, single] = inodes(&below);
    assert!(a == file && file == z);
    let one = std::slice::from_ref(&below);
    let (shown, _used) = tree(&scratch.0.join("store"), one, Kind::Shown, &mut || false).unwrap();
    let found = inodes(&shown);
    assert_eq!(found.iter().collect::<std::collections::HashSet<_>>().len(), 4);
    assert!(found[..3].contains(&a) && found[3] == single, "one name, and what has one alone, are the layer's own");
    assert!(["a", "d/file", "z"].iter().all(|name| std::fs::read(shown.join(name)).unwrap() == b"content"));
    let (copied, _used) = tree(&scratch.0.join("store"), one, Kind::Copies, &mut || false).unwrap();
    assert_eq!(copied, below);
}

#[test]
fn whiteouts_hide_lower_layers_alone_in_any_order() {
    let scratch = Scratch::new();
    let store = Store::open(&scratch.0.join("store")).unwrap();
    let tar = archive(&[
        entry(b'0', b"d/.wh.gone", b"", b""),
        entry(b'0', b".wh.kept", b"", b""),
        entry(b'0', b"kept", b"", b"x"),
        entry(b'0', b"replaced/file", b"", b"x"),
        entry(b'1', b".wh.replaced", b".wh..wh.aufs", b""),
        entry(b'0', b"opaque/before", b"", b"x"),
        entry(b'0', b"opaque/.wh..wh..opq", b"", b""),
        entry(b'0', b"opaque/below/.wh.needless", b"", b""),
        entry(b'5', b".wh..wh.plnk", b"", b""),
        entry(b'0', b".wh..wh.plnk/1.2", b"", b"x"),
    ]);
    let (blob, diff_id) = layer(&store, &tar, &gzip(&tar), media::OCI_LAYER_GZIP);
    let root = unpack_layer(&store, &blob, &diff_id, &mut || false).unwrap();
    assert!(is_whiteout(&root.join("d/gone")));
    assert!(std::fs::read(root.join("kept")).unwrap() == b"x" && !root.join(".wh.kept").exists());
    assert!(opaque(&root.join("replaced")) && root.join("replaced/file").exists());
    assert!(opaque(&root.join("opaque")) && root.join("opaque/before").exists() && !opaque(&root.join("d")));
    assert!(std::fs::read_dir(root.join("opaque/below")).unwrap().next().is_none());
    let mut names: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["d", "kept", "opaque", "replaced"]);
}

#[test]
fn a_layer_is_what_its_digests_say_or_nothing() {
    let scratch = Scratch::new();
    let store = Store::open(&scratch.0.join("store")).unwrap();
    let tar = archive(&[entry(b'0', b"f", b"", b"x")]);
    let (plain, diff_id) = layer(&store, &tar, &tar, media::OCI_LAYER);
    let (packed, _) = layer(&store, &tar, &gzip(&tar), media::OCI_LAYER_GZIP);
    let mut never = || false;
    let wrong = unpack_layer(&store, &plain, &Digest::of(b"other"), &mut never).unwrap_err();
    assert!(matches!(&wrong, Error::DigestMismatch(text) if text.contains(&plain.digest.to_string())), "{wrong}");
    let swapped = Descriptor { media_type: media::OCI_LAYER_ZSTD.into(), ..packed.clone() };
    let wrong = unpack_layer(&store, &swapped, &diff_id, &mut never).unwrap_err();
    assert!(matches!(&wrong, Error::Layer(text) if text.contains("Gzip") && text.contains("layer sha256:")), "{wrong}");
    let path = store.path().join("images/blobs/sha256").join(packed.digest.hex());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[30] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let wrong = unpack_layer(&store, &packed, &diff_id, &mut never).unwrap_err();
    assert!(matches!(&wrong, Error::DigestMismatch(text) if text.contains("store's blob")), "{wrong}");
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(unpack_layer(&store, &packed, &diff_id, &mut never), Err(Error::Image(_))));
    assert!(std::fs::read_dir(store.path().join("layers")).unwrap().next().is_none());
    assert!(unpack_layer(&store, &plain, &diff_id, &mut never).unwrap().join("f").exists());
}

#[test]
fn many_layers_come_in_their_order_and_equal_ones_once() {
    let scratch = Scratch::new();
    let store = Store::open(&scratch.0.join("store")).unwrap();
    let mut layers: Vec<_> = (0..6)
        .map(|number| {
            let tar = archive(&[entry(b'0', format!("f{number}").as_bytes(), b"", &vec![number; 300_000])]);
            let packed = if number % 2 == 0 { zstd::encode_all(&*tar, 1).unwrap() } else { gzip(&tar) };
            layer(&store, &tar, &packed, "")
        })
        .collect();
    layers.push(layers[0].clone());
    let read: Vec<AtomicUsize> = layers.iter().map(|_| AtomicUsize::new(0)).collect();
    let progress = |index: usize, bytes: u64| {
        read[index].fetch_add(bytes as usize, Ordering::Relaxed);
    };
    let (first, second) = std::thread::scope(|scope| {
        let backwards: Vec<_> = layers.iter().rev().cloned().collect();
        let store = &store;
        let other = scope.spawn(move || unpack_layers(store, &backwards, &|_, _| {}, &mut || false).unwrap());
        (unpack_layers(store, &layers, &progress, &mut || false).unwrap(), other.join().unwrap())
    });
    assert!(first.iter().eq(second.iter().rev()) && first[0] == first[6]);
    assert!((0..6).all(|number| first[number].join(format!("f{number}")).exists()));
    assert_eq!(std::fs::read_dir(store.path().join("layers")).unwrap().count(), 6);
    let again = unpack_layers(&store, &layers, &|_, _| panic!("it was read again"), &mut || false).unwrap();
    assert_eq!(again, first);
}

#[test]
fn one_bad_layer_ends_the_others_and_nothing_is_half_there() {
    let scratch = Scratch::new();
    let store = Store::open(&scratch.0.join("store")).unwrap();
    let good = archive(&[entry(b'0', b"f", b"", b"x")]);
    let bad = archive(&[entry(b'5', b".wh.d", b"", b"")]);
    let layers = [layer(&store, &good, &good, ""), layer(&store, &bad, &bad, "")];
    let error = unpack_layers(&store, &layers, &|_, _| {}, &mut || false).unwrap_err();
    assert!(error.to_string().contains("whiteout") && error.to_string().contains(&layers[1].0.digest.to_string()));
    // The good one is whole, or was not begun, or was given up.
    let mut names = std::fs::read_dir(store.path().join("layers")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.all(|name| name == layers[0].1.hex()));
    let stopped = unpack_layers(&store, &[layer(&store, b"other", b"other", "")], &|_, _| {}, &mut || true);
    assert!(stopped.is_err());
}

#[test]
fn an_opaque_root_hides_all_below_it() {
    let scratch = Scratch::new();
    let store = Store::open(&scratch.0.join("store")).unwrap();
    let tars = [
        archive(&[entry(b'0', b"low", b"", b"")]),
        archive(&[entry(b'0', b".wh..wh..opq", b"", b"")]),
        archive(&[entry(b'0', b"d/.wh..wh..opq", b"", b"")]),
    ];
    let layers: Vec<_> = tars.iter().map(|tar| layer(&store, tar, tar, media::OCI_LAYER)).collect();
    let stack = unpack_layers(&store, &layers, &|_, _| {}, &mut || false).unwrap();
    assert_eq!(visible(&stack), &stack[1..]);
    assert_eq!(visible(&stack[..1]), &stack[..1]);
    assert!(visible(&[]).is_empty());
}

fn any_entry() -> impl Strategy<Value = Vec<u8>> {
    let name =
        prop_oneof!["[ab/.]{0,6}", "(a/|b/|)\\.wh\\.[ab.]{0,3}", "(a/|b/|)\\.wh\\.\\.wh\\.(opq|plnk|\\.opq)(/a)?"];
    (prop::sample::select(&b"01256LKxg"[..]), name, "[ab/.]{0,9}", prop::collection::vec(any::<u8>(), 0..600)).prop_map(
        |(kind, name, link, data)| {
            entry(
                kind,
                name.as_bytes(),
                link.as_bytes(),
                if kind == b'0' && !name.contains(".wh.") { &data } else { b"" },
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the bytes, packed or not, cut or changed: a tree or an error, no panic, and nothing beside the root.
    #[test]
    fn no_layer_reaches_out(
        entries in prop::collection::vec(any_entry(), 1..7),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        packing in 0..3,
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let scratch = Scratch::new();
        std::fs::write(scratch.0.join("canary"), "untouched").unwrap();
        let (_, root) = scratch.directory("rootfs");
        let mut tar = archive(&entries);
        for (at, byte) in flips {
            let at = at.index(tar.len());
            tar[at] = byte;
        }
        let mut data = match packing { 0 => tar, 1 => gzip(&tar), _ => zstd::encode_all(&*tar, 1).unwrap() };
        if let Some(cut) = cut {
            data.truncate(cut.index(data.len()));
        }
        let _ = crate::image::fuzz::layer(&data, root);
        let mut names: Vec<_> = std::fs::read_dir(&scratch.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        prop_assert_eq!(names, ["canary", "rootfs"]);
        prop_assert_eq!(std::fs::read(scratch.0.join("canary")).unwrap(), b"untouched");
    }
}
