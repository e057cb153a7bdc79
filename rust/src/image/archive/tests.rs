//! Whole archives, well-formed and mutated, through the reader and into trees. The big corpus is in tests/hostile.

use super::samples::{Scratch, archive, entry, record, sized_entry};
use super::*;
use crate::image::archive::extract::extract;
use crate::image::archive::stream::{Entry, Kind, Reader};
use proptest::prelude::*;
use rustix::fs::{Mode, OFlags};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

fn read(data: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = Reader::new(data);
    let mut found = Vec::new();
    while let Some(entry) = reader.next()? {
        let (mut content, mut buffer) = (Vec::new(), [0; 100]);
        loop {
            match reader.read(&mut buffer)? {
                0 => break,
                n => content.extend_from_slice(&buffer[..n]),
            }
        }
        found.push((entry, content));
    }
    Ok(found)
}

fn unpack(scratch: &Scratch, data: &[u8], is_layer: bool) -> (PathBuf, Result<extract::Totals>) {
    let (path, fd) = scratch.directory("rootfs");
    (path, extract(&mut Reader::new(data), fd, Manner { privileged: false, is_layer }, &mut || false))
}

fn message(data: &[u8]) -> String {
    read(data).expect_err("it was taken").to_string()
}

#[test]
fn the_pax_size_wins_in_both_directions() {
    let inner = entry(b'0', b"hidden", b"", b"");
    for stated in [0, 512, 4096] {
        let pax = entry(b'x', b"x", b"", &record("size", "512"));
        let found = read(&archive(&[pax, sized_entry(b'0', b"outer", b"", &inner, stated)])).unwrap();
        assert_eq!(found.len(), 1, "header says {stated}");
        assert_eq!((&*found[0].0.name, found[0].0.size, &found[0].1), (&b"outer"[..], 512, &inner));
    }
}

#[test]
fn long_names_apply_to_one_entry() {
    let long = [b'n'; 300];
    let data = archive(&[
        entry(b'L', b"././@LongLink", b"", &[&long[..], b"\0"].concat()),
        entry(b'K', b"././@LongLink", b"", &[&long[..], b"\0"].concat()),
        entry(b'2', b"short", b"t", b""),
        entry(b'0', b"next", b"", b"x"),
    ]);
    let found = read(&data).unwrap();
    assert_eq!((&*found[0].0.name, &*found[0].0.link), (&long[..], &long[..]));
    assert_eq!(found[1].0.name, b"next");
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let pax = |key: &str, value: &str| entry(b'x', b"x", b"", &record(key, value));
    let long = || entry(b'L', b"l", b"", b"name\0");
    let file = || entry(b'0', b"f", b"", b"");
    for (entries, text) in [
        (vec![pax("path", "a"), long(), file()], "contradict"),
        (vec![long(), long(), file()], "contradict"),
        (vec![pax("path", "a"), pax("path", "b"), file()], "contradict"),
        (vec![long()], "without its entry"),
        (vec![entry(b'5', b"d", b"", b"data")], "can be none"),
        (vec![entry(b'2', b"l", b"", b"")], "without a target"),
        (vec![entry(b'Q', b"q", b"", b"")], "type 'Q'"),
        (vec![entry(b'g', b"g", b"", &record("size", "1")), file()], "global"),
        (vec![sized_entry(b'x', b"x", b"", b"", 1 << 30)], "bytes"),
        (vec![entry(b'0', b"f/", b"", b"data")], "can be none"),
        (vec![pax("GNU.sparse.major", "1"), file()], "holes"),
    ] {
        let seen = message(&archive(&entries));
        assert!(seen.contains(text), "{seen} instead of {text}");
    }
    assert!(message(&file()).contains("end marker"));
    assert!(message(&[file(), vec![0; 512], file()].concat()).contains("follows"));
    assert!(message(b"").contains("end marker"));
    assert!(message(&[b'a'; 700]).contains("is not a number"));
}

#[test]
fn a_tree_comes_out_with_modes_times_and_links() {
    let scratch = Scratch::new();
    let (root, done) = unpack(
        &scratch,
        &archive(&[
            entry(b'5', b"./", b"", b""),
            entry(b'0', b"./a/b/file", b"", b"text"),
            entry(b'1', b"hard", b"/a/b/file", b""),
            entry(b'2', b"sym", b"../../a", b""),
            entry(b'0', b"sym/through", b"", b"x"),
            entry(b'5', b"sym", b"", b""),
        ]),
        false,
    );
    let totals = done.unwrap();
    assert_eq!((totals.entries, totals.bytes, totals.implied.len()), (6, 5, 0));
    assert_eq!(std::fs::read(root.join("hard")).unwrap(), b"text");
    assert_eq!(std::fs::metadata(root.join("hard")).unwrap().nlink(), 2);
    assert!(root.join("a/through").exists(), "a link on the way leads inside the root");
    let replaced = std::fs::symlink_metadata(root.join("sym")).unwrap();
    assert!(replaced.is_dir() && replaced.mtime() == 1);
    assert_eq!(std::fs::metadata(root.join("a")).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn trees_of_any_depth_are_removed() {
    let scratch = Scratch::new();
    let (deep, mut at) = scratch.directory("deep");
    for _ in 0..3000 {
        for name in ["d", "~1"] {
            rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
        }
        at = rustix::fs::openat(&at, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let parent = rustix::fs::open(&scratch.0, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    crate::image::remove::remove_tree(std::os::fd::AsFd::as_fd(&parent), c"deep").unwrap();
    assert!(!deep.exists());
}

fn any_kind() -> impl Strategy<Value = u8> {
    prop::sample::select(&b"01256\0LKxgS37"[..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the bytes: an answer, no panic, and never more data than there is.
    #[test]
    fn mutated_archives_are_read_or_refused(
        entries in prop::collection::vec((any_kind(), "[a-z/.]{0,8}", "[a-z/.]{0,8}", prop::collection::vec(any::<u8>(), 0..600)), 1..5),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let made: Vec<_> = entries.iter().map(|(kind, name, link, data)| entry(*kind, name.as_bytes(), link.as_bytes(), data)).collect();
        let mut data = archive(&made);
        for (at, byte) in flips {
            let at = at.index(data.len());
            data[at] = byte;
        }
        if let Ok(found) = read(&data) {
            prop_assert!(found.iter().map(|(_, content)| content.len()).sum::<usize>() <= data.len());
            prop_assert!(found.iter().all(|(entry, _)| entry.kind == Kind::File || entry.size == 0));
        }
    }

    /// What was written is what is there; and nothing beside the root.
    #[test]
    fn entries_stay_beneath_the_root(
        entries in prop::collection::vec((prop::sample::select(&b"0125"[..]), "[ab/.]{0,6}", "[ab/.]{0,9}"), 1..7),
    ) {
        let scratch = Scratch::new();
        std::fs::write(scratch.0.join("canary"), "untouched").unwrap();
        let made: Vec<_> = entries.iter().map(|(kind, name, link)| entry(*kind, name.as_bytes(), link.as_bytes(), b"")).collect();
        let _ = unpack(&scratch, &archive(&made), false);
        let mut names: Vec<_> = std::fs::read_dir(&scratch.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        prop_assert_eq!(names, ["canary", "rootfs"]);
    }
}
