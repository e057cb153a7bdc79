//! Trees as layers through a stream: what is told of them, in which order; streams that make no sense. As any user.

use _core::error::Result;
use _core::files::Own;
use _core::files::tree::{Item, Kind, Taker, Wanted, read};
use _core::sys::fs::Fd;
use _core::transfer::input::Input;
use _core::transfer::output::Output;
use _core::transfer::tree::{Marks, ROOM, Tree, What};
use _core::transfer::{BUFFER, Stream};
use proptest::prelude::*;
use std::ffi::CString;
use std::fs;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A directory of its own, with `upper` and `lower`, removed with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pycontainer-tree-{}-{number}", std::process::id()));
        fs::create_dir_all(path.join("upper")).unwrap();
        fs::create_dir_all(path.join("lower")).unwrap();
        Scratch(path)
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Default)]
struct Bytes(Vec<u8>, usize);

impl Stream for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> _core::sys::Result<usize> {
        let count = buffer.len().min(self.0.len() - self.1).min(1000);
        buffer[..count].copy_from_slice(&self.0[self.1..self.1 + count]);
        self.1 += count;
        Ok(count)
    }

    fn write(&mut self, data: &[u8]) -> _core::sys::Result<usize> {
        self.0.extend_from_slice(data);
        Ok(data.len())
    }
}

/// As the tar writer has it: data is exactly what was announced.
#[derive(Default)]
struct Kept {
    items: Vec<(Item, Vec<u8>)>,
    left: u64,
}

impl Taker for Kept {
    fn item(&mut self, item: &Item) -> Result<()> {
        assert_eq!(self.left, 0, "the data of the item before is complete");
        let regions = item.regions.as_ref();
        self.left = regions.map_or(item.size, |regions| regions.iter().map(|(_, length)| length).sum());
        self.items.push((item.clone(), Vec::new()));
        Ok(())
    }

    fn data(&mut self, data: &[u8]) -> Result<()> {
        self.left = self.left.checked_sub(data.len() as u64).expect("no more than was announced");
        // Regions may be announced that no memory could hold.
        let kept = &mut self.items.last_mut().unwrap().1;
        kept.extend_from_slice(&data[..data.len().min((1 << 20) - kept.len().min(1 << 20))]);
        Ok(())
    }
}

fn told(scratch: &Scratch, layer: bool) -> Vec<u8> {
    told_by(scratch, layer.then(|| Marks::of(true)))
}

fn told_by(scratch: &Scratch, marks: Option<Marks>) -> Vec<u8> {
    let open = |name: &str| Fd::own(fs::File::open(scratch.0.join(name)).unwrap().into_raw_fd());
    let (upper, lower) = (open("upper"), open("lower"));
    let (mut buffer, mut room) = (vec![0; BUFFER], vec![0; ROOM]);
    let what = marks.map_or(What::Whole([-1, -1]), What::Layer);
    let mut tree = Tree::new(Output::new(Bytes::default(), &mut buffer), &mut room, what);
    tree.walk(upper.raw(), marks.map(|_| lower.raw())).unwrap();
    tree.out.stream.0
}

fn taken(data: Vec<u8>, own: Option<&Own>) -> Result<Vec<(Item, Vec<u8>)>> {
    let mut buffer = vec![0; BUFFER];
    let (mut kept, ids) = (Kept::default(), Vec::new());
    let wanted =
        own.map_or(Wanted::Whole { as_layer: false }, |own| Wanted::Layer { own, uids: ids.clone(), gids: ids });
    read(Input::new(Bytes(data, 0), &mut buffer), "read", &wanted, &mut kept)?;
    assert_eq!(kept.left, 0);
    Ok(kept.items)
}

fn names(items: &[(Item, Vec<u8>)]) -> Vec<String> {
    items.iter().map(|(item, _)| String::from_utf8_lossy(&item.name).into_owned()).collect()
}

fn whiteout(path: &Path) {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    _core::sys::fs::mknodat(-100, &path, libc::S_IFCHR, 0).expect("since 5.8 anybody makes one");
}

#[test]
fn a_layer_says_what_is_gone_and_what_is_hidden() {
    let scratch = Scratch::new();
    for name in ["lower/gone", "lower/hides/x", "lower/new/x", "lower/was-file"] {
        scratch.file(name, "below");
    }
    for name in ["upper/b", "upper/a", "upper/a-", "upper/hides/y", "upper/fresh/y", "upper/new/y", "upper/was-file/y"]
    {
        scratch.file(name, "text");
    }
    whiteout(&scratch.0.join("upper/gone"));
    for name in ["upper/hides", "upper/fresh"] {
        let directory = Fd::own(fs::File::open(scratch.0.join(name)).unwrap().into_raw_fd());
        _core::sys::xattr::fsetxattr(directory.raw(), c"user.overlay.opaque", b"y").unwrap();
    }
    let found = taken(told(&scratch, true), Some(&Own::default())).unwrap();
    let expected = "a a- b fresh fresh/y .wh.gone hides hides/.wh..wh..opq hides/y new new/y was-file was-file/y";
    assert_eq!(names(&found), expected.split(' ').collect::<Vec<_>>());
    // Of a whole root nothing is a mark.
    fs::remove_file(scratch.0.join("upper/gone")).unwrap();
    let found = taken(told(&scratch, false), None).unwrap();
    assert_eq!(names(&found)[..4], [".", "a", "a-", "b"]);
    assert!(!names(&found).iter().any(|name| name.contains(".wh.")));
}

#[test]
fn fuse_overlayfs_says_the_same_by_names() {
    let scratch = Scratch::new();
    for name in ["lower/gone", "lower/noted", "lower/again", "lower/hides/x"] {
        scratch.file(name, "below");
    }
    for name in ["upper/a", "upper/again", "upper/hides/y", "upper/fresh/y"] {
        scratch.file(name, "text");
    }
    whiteout(&scratch.0.join("upper/gone"));
    for name in ["upper/.wh.noted", "upper/.wh.again", "upper/hides/.wh..wh..opq", "upper/fresh/.wh..wh..opq"] {
        scratch.file(name, "");
    }
    // It takes its own mark for a name that has to be hidden.
    whiteout(&scratch.0.join("upper/fresh/.wh..opq"));
    let found = taken(told_by(&scratch, Some(Marks::SERVED)), Some(&Own::default())).unwrap();
    let expected = ".wh.noted a again fresh fresh/y .wh.gone hides hides/.wh..wh..opq hides/y";
    assert_eq!(names(&found), expected.split(' ').collect::<Vec<_>>());
}

#[test]
fn what_is_ours_is_told_when_something_is_in_it() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.0.join("upper/mnt/data")).unwrap();
    for name in ["upper/etc/hosts", "lower/etc/hosts"] {
        scratch.file(name, "text");
    }
    scratch.file("upper/bound", "");
    let own = Own {
        made: vec!["/mnt/data".into(), "/bound".into(), "/etc/hosts".into()],
        provided: vec!["/etc/hosts".into()],
    };
    assert_eq!(names(&taken(told(&scratch, true), Some(&own)).unwrap()), [""; 0]);
    scratch.file("upper/mnt/data/x", "mine");
    scratch.file("upper/bound", "mine");
    assert_eq!(names(&taken(told(&scratch, true), Some(&own)).unwrap()), ["bound", "mnt", "mnt/data", "mnt/data/x"]);
    fs::set_permissions(scratch.0.join("upper/etc"), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(names(&taken(told(&scratch, true), Some(&own)).unwrap()).contains(&"etc".into()));
    scratch.file("upper/.wh.x", "");
    assert!(taken(told(&scratch, true), Some(&own)).is_err(), "a layer has no place for it");
    assert!(taken(told(&scratch, false), None).is_ok());
}

#[test]
fn links_modes_attributes_and_holes_come_whole() {
    let scratch = Scratch::new();
    let first = scratch.file("upper/d/z", "text");
    fs::set_permissions(&first, fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(&first, scratch.0.join("upper/d/a")).unwrap();
    symlink("nowhere", scratch.0.join("upper/link")).unwrap();
    let sparse = fs::File::create(scratch.0.join("upper/sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    sparse.write_all_at(b"middle", 4 << 20).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(scratch.0.join("upper/socket")).unwrap();
    let opened = Fd::own(fs::File::open(&first).unwrap().into_raw_fd());
    for (name, value) in [(c"user.b", &b"1"[..]), (c"user.a", b"\0"), (c"user.overlay.origin", b"x")] {
        _core::sys::xattr::fsetxattr(opened.raw(), name, value).unwrap();
    }
    let found = taken(told(&scratch, true), Some(&Own::default())).unwrap();
    assert_eq!(names(&found), ["d", "d/a", "d/z", "link", "sparse"]);
    let (file, data) = &found[1];
    assert_eq!((file.kind, file.mode, &data[..]), (Kind::File, 0o4751, &b"text"[..]));
    assert_eq!(file.xattrs, [(b"user.a".to_vec(), b"\0".to_vec()), (b"user.b".to_vec(), b"1".to_vec())]);
    assert_eq!((found[2].0.kind, &found[2].0.link[..]), (Kind::HardLink, &b"d/a"[..]));
    assert_eq!((found[3].0.kind, &found[3].0.link[..]), (Kind::Link, &b"nowhere"[..]));
    let (sparse, data) = &found[4];
    if let Some(regions) = &sparse.regions {
        assert_eq!(regions.last(), Some(&(8 << 20, 0)));
        assert!(regions[0].0 <= 4 << 20 && data.len() < 1 << 20);
        assert_eq!(&data[(4 << 20) - regions[0].0 as usize..][..6], b"middle");
    } // else this file system knows of no holes
    drop(socket);
}

proptest! {
    /// Whatever the bytes: an answer, no panic, names below the root, and as much data as was announced.
    #[test]
    fn a_stream_that_was_changed_is_read_or_refused(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<prop::sample::Index>(),
        layer in any::<bool>(),
    ) {
        let scratch = Scratch::new();
        scratch.file("upper/d/file", "some text");
        fs::hard_link(scratch.0.join("upper/d/file"), scratch.0.join("upper/d/hard")).unwrap();
        symlink("x", scratch.0.join("upper/link")).unwrap();
        let mut data = told(&scratch, layer);
        for (at, byte) in flips {
            let at = at.index(data.len());
            data[at] = byte;
        }
        data.truncate(data.len() - cut.index(data.len()) / 8);
        let own = Own::default();
        if let Ok(found) = taken(data, layer.then_some(&own)) {
            for (item, _) in found {
                let parts: Vec<&[u8]> = item.name.split(|byte| *byte == b'/').collect();
                prop_assert!(!parts.contains(&&b".."[..]) && !item.name.starts_with(b"/") && !item.name.contains(&0));
                prop_assert!(item.name == b"." || !parts.contains(&&b"."[..]));
            }
        }
    }
}
