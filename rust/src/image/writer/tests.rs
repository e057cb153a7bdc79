//! What is written is what our own reader reads; GNU tar and umoci read it in tests/integration.

use super::*;
use crate::image::archive::{Meta, Reader};
use proptest::collection::vec;
use proptest::prelude::*;

type Whole = (Entry, Vec<u8>);

fn written(entries: &[Whole], latest: Option<i64>) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), latest);
    for (entry, data) in entries {
        writer.entry(entry).unwrap();
        data.chunks(100).for_each(|piece| writer.data(piece).unwrap());
    }
    writer.finish().unwrap()
}

fn read(data: &[u8]) -> Vec<Whole> {
    let mut reader = Reader::new(data);
    let mut found = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        let (mut content, mut buffer) = (Vec::new(), [0; 100]);
        loop {
            match reader.read(&mut buffer).unwrap() {
                0 => break,
                n => content.extend_from_slice(&buffer[..n]),
            }
        }
        found.push((entry, content));
    }
    found
}

fn file(name: &[u8], data: &[u8]) -> Whole {
    let meta = Meta { mode: 0o644, ..Meta::default() };
    let entry =
        Entry { kind: Kind::File, name: name.into(), link: Vec::new(), meta, size: data.len() as u64, regions: None };
    (entry, data.into())
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(1u8.., 1..most)
}

/// Components that no reader takes for something else; bytes that are no UTF-8 among them.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let part = vec(prop_oneof![Just(b'a'), Just(b'='), Just(b'\n'), Just(0xff), Just(b' '), Just(b'%')], 1..90);
    vec(part, 1..6).prop_map(|parts| parts.join(&b'/'))
}

fn entry() -> impl Strategy<Value = Whole> {
    let id = prop_oneof![0u64..3_000_000, Just(u64::from(u32::MAX) - 1)];
    let time = prop_oneof![-5_000_000_000i64..20_000_000_000, Just(1 << 40)];
    let device = || (0u32..1 << 12, 0u32..1 << 20);
    let kind = prop_oneof![
        Just(Kind::File),
        Just(Kind::Directory),
        Just(Kind::Symlink),
        Just(Kind::Hardlink),
        Just(Kind::Fifo),
        device().prop_map(|(major, minor)| Kind::CharDevice(major, minor)),
        device().prop_map(|(major, minor)| Kind::BlockDevice(major, minor)),
    ];
    let xattrs = vec(("user\\.[a-z=%0-9D]{1,20}", vec(any::<u8>(), 0..40)), 0..4);
    let rest = (0u32..0o10000, id.clone(), id, time, xattrs, bytes(1200), any::<bool>());
    (kind, name(), bytes(300), rest).prop_map(|(kind, name, link, (mode, uid, gid, seconds, xattrs, data, holes))| {
        let is_file = kind == Kind::File;
        let link = if matches!(kind, Kind::Symlink | Kind::Hardlink) { link } else { Vec::new() };
        let data = if is_file { data } else { Vec::new() };
        let mut xattrs: Vec<(Vec<u8>, Vec<u8>)> =
            xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
        xattrs.sort();
        xattrs.dedup_by(|a, b| a.0 == b.0);
        let half = data.len() as u64 / 2;
        let regions = (is_file && holes).then(|| vec![(10, half), (5000, data.len() as u64 - half), (1 << 33, 0)]);
        let size = if regions.is_some() { 1 << 33 } else { data.len() as u64 };
        let meta = Meta { mode, uid, gid, mtime: (seconds, 0), xattrs };
        (Entry { kind, name, link, meta, size, regions }, data)
    })
}

proptest! {
    #[test]
    fn our_own_reader_reads_it_back(entries in vec(entry(), 0..6)) {
        let made = written(&entries, None);
        prop_assert_eq!(made.len() % BLOCK, 0);
        let mut found = read(&made);
        for (entry, _) in &mut found {
            if entry.kind == Kind::Directory {
                prop_assert_eq!(entry.name.pop(), Some(b'/'));
            }
            // Our writer has an order of its own for them.
            entry.meta.xattrs.sort();
        }
        prop_assert_eq!(found, entries.clone());
        prop_assert_eq!(made, written(&entries, None), "the same entries, the same bytes");
    }

    #[test]
    fn a_record_counts_itself(key in "[a-z]{1,12}", value in vec(any::<u8>(), 0..1100)) {
        let made = record(key.as_bytes(), &value);
        let digits: String = made.iter().take_while(|byte| byte.is_ascii_digit()).map(|byte| *byte as char).collect();
        prop_assert_eq!(digits.parse::<usize>().unwrap(), made.len());
    }
}

#[test]
fn what_has_room_needs_no_record() {
    let long = [&b"d/".repeat(50)[..], b"x"].concat();
    assert_eq!(written(&[file(b"a", b"data")], None).len(), 4 * BLOCK);
    assert_eq!(written(&[file(&long, b"")], None).len(), 3 * BLOCK, "a prefix holds it");
    assert_eq!(written(&[file(&[b'n'; 101], b"")], None).len(), 5 * BLOCK);
    assert_eq!(read(&written(&[file(&long, b"")], None))[0].0.name, long);
}

#[test]
fn no_time_is_after_the_one_that_is_said() {
    let (mut entry, _) = file(b"a", b"");
    for (seconds, latest, expected) in [(9, Some(5), 5), (3, Some(5), 3), (-7, Some(-9), -9), (9, None, 9)] {
        entry.meta.mtime = (seconds, 500);
        assert_eq!(read(&written(&[(entry.clone(), Vec::new())], latest))[0].0.meta.mtime, (expected, 0));
    }
}

#[test]
fn data_is_as_long_as_was_announced() {
    let (entry, _) = file(b"a", b"1234");
    let mut writer = Writer::new(Vec::new(), None);
    writer.entry(&entry).unwrap();
    assert!(writer.data(b"12345").is_err());
    writer.data(b"123").unwrap();
    assert!(writer.entry(&entry).is_err());
    assert!(writer.finish().is_err());
}
