//! Trees through a stream of files and back; streams that make no sense. As any user, in temporary directories.

use _core::sys::fs::Fd;
use _core::sys::{Errno, Result};
use _core::transfer::input::Input;
use _core::transfer::output::Output;
use _core::transfer::pack::{self, Bounds, Packer};
use _core::transfer::unpack::{Fault, Place, Rules, Unpacker};
use _core::transfer::{BUFFER, EXTRA_MAX, LEVELS, LIST_MAX, NAMES, Stream};
use _core::wire::files::{entry, segment};
use _core::wire::{EntryHead, Write};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A directory of its own, removed with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pycontainer-transfer-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What was written can be read.
#[derive(Default)]
struct Bytes {
    data: Vec<u8>,
    at: usize,
    /// At most so many at once.
    piece: usize,
}

impl Stream for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = buffer.len().min(self.data.len() - self.at).min(self.piece.max(1));
        buffer[..count].copy_from_slice(&self.data[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }

    fn write(&mut self, data: &[u8]) -> Result<usize> {
        self.data.extend_from_slice(data);
        Ok(data.len())
    }
}

fn name(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn packed(parent: &Path, what: &str) -> std::result::Result<Vec<u8>, pack::Fault> {
    let (mut buffer, mut names, mut extra) = (vec![0; BUFFER], vec![0; LEVELS * NAMES], vec![0; EXTRA_MAX + LIST_MAX]);
    let directory = fs::File::open(parent).unwrap();
    let mut packer = Packer::new(Output::new(Bytes::default(), &mut buffer), &mut names, &mut extra, Bounds::default());
    packer.pack(directory.as_raw_fd(), &name(what))?;
    Ok(std::mem::take(&mut packer.out.stream.data))
}

struct Got {
    result: std::result::Result<(), Fault>,
    trail: String,
    left: (u64, i32, String),
}

fn unpacked(data: Vec<u8>, piece: usize, parent: &Path, what: &str) -> Got {
    let mut buffer = vec![0; BUFFER];
    let directory = fs::File::open(parent).unwrap();
    let rules = Rules { exact_modes: false, set_ids_on: None, no_kernels: false };
    let mut unpacker = Unpacker::new(Input::new(Bytes { data, at: 0, piece }, &mut buffer), rules);
    let existing = || {
        let mut options = fs::OpenOptions::new();
        options.read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW);
        let opened = options.open(parent.join(what));
        let opened = opened.map_err(|error| Errno(error.raw_os_error().unwrap_or(5)))?;
        Ok(Fd::own(opened.into_raw_fd()))
    };
    let (wanted, temporary) = (name(what), name(".temporary"));
    let place = Place { parent: directory.as_raw_fd(), name: &wanted, temporary: &temporary, existing: &existing };
    let result = unpacker.unpack(&place);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let left = (unpacker.left.count, unpacker.left.errno, text(unpacker.left.first.text()));
    Got { result, trail: text(unpacker.trail.text()), left }
}

#[derive(Debug, Clone)]
enum Node {
    /// Pieces of data, each after a hole of so many pages.
    File(Vec<(u8, Vec<u8>)>, u32),
    Link(String),
    Directory(BTreeMap<String, Node>, u32),
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c.]{1,3}x", "[^/\0]{1,20}x", Just("*?[]\n x".to_string())]
}

fn nodes() -> impl Strategy<Value = Node> {
    let file = (vec((0u8..3, vec(any::<u8>(), 0..5000)), 0..3), 0u32..0o1000)
        .prop_map(|(parts, mode)| Node::File(parts, mode | 0o400));
    let leaf = prop_oneof![3 => file, 1 => "[a-z./]{1,9}".prop_map(Node::Link)];
    leaf.prop_recursive(4, 24, 5, |inner| {
        (btree_map(names(), inner, 0..5), 0u32..0o1000)
            .prop_map(|(content, mode)| Node::Directory(content, mode | 0o700))
    })
}

fn make(at: &Path, node: &Node) {
    match node {
        Node::File(parts, mode) => {
            use std::io::{Seek, Write};
            let mut file = fs::File::create(at).unwrap();
            for (hole, data) in parts {
                file.seek_relative(i64::from(*hole) * 65536).unwrap();
                file.write_all(data).unwrap();
            }
            let length = file.stream_position().unwrap();
            file.set_len(length).unwrap();
            fs::set_permissions(at, fs::Permissions::from_mode(*mode)).unwrap();
        }
        Node::Link(target) => symlink(target, at).unwrap(),
        Node::Directory(content, mode) => {
            fs::create_dir(at).unwrap();
            content.iter().for_each(|(name, node)| make(&at.join(name), node));
            fs::set_permissions(at, fs::Permissions::from_mode(*mode)).unwrap();
        }
    }
}

/// Everything that is kept, by path.
fn seen(at: &Path) -> Vec<(PathBuf, u32, i64, i64, Vec<u8>)> {
    fn walk(at: &Path, below: &Path, found: &mut Vec<(PathBuf, u32, i64, i64, Vec<u8>)>) {
        let meta = fs::symlink_metadata(at).unwrap();
        let content = match meta.file_type() {
            kind if kind.is_symlink() => fs::read_link(at).unwrap().into_os_string().into_encoded_bytes(),
            kind if kind.is_dir() => Vec::new(),
            _ => fs::read(at).unwrap(),
        };
        found.push((below.to_path_buf(), meta.mode(), meta.mtime(), meta.mtime_nsec(), content));
        if meta.is_dir() {
            let mut names: Vec<_> = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names.iter().for_each(|name| walk(&at.join(name), &below.join(name), found));
        }
    }
    let mut found = Vec::new();
    walk(at, Path::new(""), &mut found);
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_tree_comes_back_as_it_was(node in nodes(), piece in 1usize..70_000) {
        let (from, to) = (Scratch::new(), Scratch::new());
        make(&from.0.join("tree"), &node);
        let got = unpacked(packed(&from.0, "tree").unwrap(), piece, &to.0, "copy");
        prop_assert_eq!(got.result, Ok(()));
        prop_assert_eq!(got.left.0, 0);
        prop_assert_eq!(seen(&from.0.join("tree")), seen(&to.0.join("copy")));
        prop_assert_eq!(fs::read_dir(&to.0).unwrap().count(), 1);
    }

    /// Whatever comes, nothing is made beside the place, and nothing panics.
    #[test]
    fn a_stream_that_was_changed_stays_in_its_place(node in nodes(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (from, to) = (Scratch::new(), Scratch::new());
        make(&from.0.join("tree"), &node);
        let mut data = packed(&from.0, "tree").unwrap();
        let index = at.index(data.len());
        data[index] ^= byte;
        unpacked(data, 4096, &to.0, "copy");
        let made: Vec<_> = fs::read_dir(&to.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        prop_assert!(made.iter().all(|name| name == "copy" || name == ".temporary"), "{:?}", made);
    }

    #[test]
    fn a_stream_that_ends_early_is_refused(node in nodes(), at in any::<prop::sample::Index>()) {
        let (from, to) = (Scratch::new(), Scratch::new());
        make(&from.0.join("tree"), &node);
        let mut data = packed(&from.0, "tree").unwrap();
        data.truncate(at.index(data.len()));
        prop_assert_eq!(unpacked(data, 4096, &to.0, "copy").result, Err(Fault::Stream(Errno::PIPE)));
    }
}

/// An entry by hand: lengths as they are, whatever they mean.
fn raw(kind: u8, name: &[u8], extra: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let head =
        EntryHead { kind, name: name.len() as u16, extra: extra.len() as u32, mode: 0o755, ..EntryHead::default() };
    head.write(&mut bytes);
    assert_eq!(bytes.len(), EntryHead::LENGTH);
    bytes.extend_from_slice(name);
    bytes.push(0);
    bytes.extend_from_slice(extra);
    bytes
}

fn file(name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut bytes = raw(entry::FILE, name, b"");
    bytes.put_u32(content.len() as u32);
    bytes.extend_from_slice(content);
    bytes.put_u32(segment::END);
    bytes
}

#[test]
fn a_name_is_one_component() {
    for bad in [&b".."[..], b".", b"a/b", b"/etc", b"a\0b", &[b'a'; 256]] {
        let to = Scratch::new();
        let data = [raw(entry::DIRECTORY, b"", b""), file(bad, b"evil"), raw(entry::LEAVE, b"", b"")].concat();
        assert_eq!(unpacked(data, 4096, &to.0, "copy").result, Err(Fault::Stream(Errno::PROTO)), "{bad:?}");
        assert_eq!(fs::read_dir(to.0.join("copy")).unwrap().count(), 0);
    }
}

#[test]
fn entries_come_in_their_order() {
    let end = || raw(entry::END, b"", b"");
    let tree = || raw(entry::DIRECTORY, b"", b"");
    let leave = || raw(entry::LEAVE, b"", b"");
    let bad = [
        end(),
        leave(),
        [file(b"", b""), file(b"", b""), end()].concat(),
        [file(b"named", b""), end()].concat(),
        [tree(), end()].concat(),
        [tree(), file(b"", b"")].concat(),
        [tree(), leave(), leave()].concat(),
        [tree(), leave(), tree()].concat(),
        raw(entry::LEFT_OUT, b"", b""),
        raw(entry::CHANGE, b"x", b""),
        raw(0, b"", b""),
        raw(77, b"", b""),
        raw(entry::LINK, b"", b"no zero at its end"),
    ];
    for data in bad {
        let to = Scratch::new();
        let got = unpacked(data.clone(), 4096, &to.0, "copy").result;
        assert_eq!(got, Err(Fault::Stream(Errno::PROTO)), "{data:?}");
    }
}

#[test]
fn an_attribute_of_the_system_s_does_not_travel() {
    let to = Scratch::new();
    let mut extra = vec![b"trusted.x\0".len() as u8, 1, 0, 0, 0];
    extra.extend_from_slice(b"trusted.x\0y");
    let data = [raw(entry::FILE, b"", &extra), vec![0; 4], raw(entry::END, b"", b"")].concat();
    assert_eq!(unpacked(data, 4096, &to.0, "copy").result, Err(Fault::Here(Errno::PROTO)));
    assert_eq!(fs::read_dir(&to.0).unwrap().count(), 0);
}

#[test]
fn a_hole_beyond_every_file_is_refused() {
    let to = Scratch::new();
    let mut data = raw(entry::FILE, b"", b"");
    for _ in 0..3 {
        data.put_u32(segment::HOLE);
        data.put_u64(u64::MAX / 2);
    }
    assert!(unpacked(data, 4096, &to.0, "copy").result.is_err());
    assert_eq!(fs::read_dir(&to.0).unwrap().count(), 0);
}

#[test]
fn trees_merge_and_nothing_is_written_through_a_link() {
    let (from, to) = (Scratch::new(), Scratch::new());
    for (path, text) in [("tree/a", "new"), ("tree/link", "new"), ("tree/d/inner", "new")] {
        fs::create_dir_all(from.0.join(path).parent().unwrap()).unwrap();
        fs::write(from.0.join(path), text).unwrap();
    }
    let (outside, copy) = (to.0.join("outside"), to.0.join("copy"));
    fs::create_dir_all(copy.join("d")).unwrap();
    for path in [&outside, &copy.join("a"), &copy.join("d/kept")] {
        fs::write(path, "old").unwrap();
    }
    symlink(&outside, copy.join("link")).unwrap();
    let data = packed(&from.0, "tree").unwrap();
    assert_eq!(unpacked(data.clone(), 4096, &to.0, "copy").result, Ok(()));
    let read = |path: &str| fs::read_to_string(to.0.join(path)).unwrap();
    assert_eq!(read("outside"), "old");
    for (path, text) in [("copy/a", "new"), ("copy/link", "new"), ("copy/d/inner", "new"), ("copy/d/kept", "old")] {
        assert_eq!(read(path), text);
    }
    // A link where the tree has a directory leads nowhere.
    fs::remove_dir_all(copy.join("d")).unwrap();
    fs::create_dir(to.0.join("elsewhere")).unwrap();
    symlink(to.0.join("elsewhere"), copy.join("d")).unwrap();
    let got = unpacked(data, 4096, &to.0, "copy");
    assert!(matches!(got.result, Err(Fault::Here(Errno::NOTDIR | Errno::LOOP))), "{:?}", got.result);
    assert_eq!(got.trail, "d");
    assert_eq!(fs::read_dir(to.0.join("elsewhere")).unwrap().count(), 0);
}

#[test]
fn what_is_no_file_is_left_out_and_named() {
    let (from, to) = (Scratch::new(), Scratch::new());
    fs::create_dir_all(from.0.join("tree/d")).unwrap();
    fs::write(from.0.join("tree/d/file"), "text").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        from.0.join("tree/d/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let got = unpacked(packed(&from.0, "tree").unwrap(), 4096, &to.0, "copy");
    assert_eq!((got.result, got.left), (Ok(()), (1, 6, "d/fifo".into())));
    assert_eq!(fs::read_to_string(to.0.join("copy/d/file")).unwrap(), "text");
    // Alone, it is refused.
    let refused = packed(&from.0.join("tree/d"), "fifo");
    assert_eq!(refused.unwrap_err(), pack::Fault::Here(Errno(6)));
}

#[test]
fn directories_are_kept_open_up_to_a_depth() {
    let (from, to) = (Scratch::new(), Scratch::new());
    let mut deepest = from.0.join("tree");
    fs::create_dir(&deepest).unwrap();
    for _ in 0..LEVELS + 3 {
        deepest.push("d");
        fs::create_dir(&deepest).unwrap();
    }
    let got = unpacked(packed(&from.0, "tree").unwrap(), 4096, &to.0, "copy");
    assert_eq!((got.result, got.left.0, got.left.1), (Ok(()), 1, 54));
}

#[test]
fn set_id_bits_stay_behind() {
    let (from, to) = (Scratch::new(), Scratch::new());
    fs::write(from.0.join("file"), "text").unwrap();
    fs::set_permissions(from.0.join("file"), fs::Permissions::from_mode(0o6755)).unwrap();
    unpacked(packed(&from.0, "file").unwrap(), 4096, &to.0, "copy").result.unwrap();
    assert_eq!(fs::metadata(to.0.join("copy")).unwrap().mode() & 0o7777, 0o755);
}
