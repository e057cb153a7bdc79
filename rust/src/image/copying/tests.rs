//! Where paths lead in a layer over others, and what comes of a file that changes while it is copied.

use super::view::{Node, View};
use super::*;
use crate::image::archive::{EntryKind, Meta};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

struct Room(PathBuf);

impl Room {
    fn new(name: &str) -> Room {
        let path = std::env::temp_dir().join(format!("pycontainer-copying-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("base/usr/bin")).unwrap();
        std::fs::create_dir_all(path.join("context")).unwrap();
        symlink("usr/bin", path.join("base/bin")).unwrap();
        symlink("/usr", path.join("base/absolute")).unwrap();
        symlink("../../..", path.join("base/usr/up")).unwrap();
        symlink("loop", path.join("base/loop")).unwrap();
        std::fs::write(path.join("base/file"), "text").unwrap();
        Room(path)
    }

    fn view(&self) -> View {
        View::new(Tree::layers(&[self.0.join("base")]).unwrap(), (0, 0), 0)
    }

    fn store(&self) -> Store {
        Store::open(&self.0.join("store")).unwrap()
    }

    fn wanted<'a>(&self, below: &'a Tree) -> Wanted<'a> {
        Wanted {
            below,
            destination: b"/x".to_vec(),
            is_directory: false,
            owner: None,
            change: None,
            is_independent: false,
            made: 0,
            latest: None,
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn node(kind: EntryKind) -> Node {
    Node::new(kind, Meta { mode: 0o755, ..Meta::default() })
}

#[test]
fn paths_lead_where_they_would_in_a_container() {
    let room = Room::new("paths");
    let mut view = room.view();
    for (path, expected, seen) in [
        ("/", "", Seen::Directory),
        ("..//./", "", Seen::Directory),
        ("bin/x", "usr/bin/x", Seen::Nothing),
        ("/absolute/bin", "usr/bin", Seen::Directory),
        ("usr/up/usr/up/file", "file", Seen::Other),
        ("new/../file", "file", Seen::Other),
        ("new/deep/../../usr", "usr", Seen::Directory),
        ("new/deep/..", "new", Seen::Nothing),
    ] {
        assert_eq!(view.resolve(path.as_bytes()).unwrap(), (expected.as_bytes().to_vec(), seen), "{path}");
    }
    assert!(matches!(view.resolve(b"loop"), Err(Error::Setup { errno: libc::ELOOP, .. })));
    assert!(matches!(view.resolve(b"file/x"), Err(Error::Layer(_))));
}

#[test]
fn what_the_layer_has_hides_what_is_below() {
    let room = Room::new("hides");
    let mut view = room.view();
    view.put(b"usr", node(EntryKind::Fifo)).unwrap();
    assert_eq!(view.look(b"usr").unwrap(), Seen::Other);
    assert_eq!(view.look(b"usr/bin").unwrap(), Seen::Nothing);
    assert!(view.covers_directory(b"usr").unwrap());
    view.clear(b"usr");
    view.put(b"usr", Node { is_opaque: true, ..node(EntryKind::Directory) }).unwrap();
    assert_eq!(view.look(b"usr/bin").unwrap(), Seen::Nothing);
    assert!(!view.covers_directory(b"usr/bin").unwrap());
    view.put(b"usr/bin/deep", node(EntryKind::Directory)).unwrap();
    assert_eq!(view.resolve(b"bin/deep").unwrap(), (b"usr/bin/deep".to_vec(), Seen::Directory));
    view.clear(b"usr");
    assert_eq!(view.look(b"usr/bin").unwrap(), Seen::Directory, "what is below is there again");
    assert_eq!(view.look(b"usr/bin/deep").unwrap(), Seen::Nothing);
    assert!(view.put(b"a/.wh.b", node(EntryKind::File)).is_err());
}

/// Copies `name` and changes it between the look and the reading.
fn copied(room: &Room, name: &str, change: impl Fn(&Path)) -> Result<Option<Layer>> {
    let (context, below) = (Tree::context(&room.0.join("context")).unwrap(), Tree::empty());
    let (store, wanted) = (room.store(), room.wanted(&below));
    let mut view = View::new(Tree::empty(), (0, 0), 0);
    let mut placing = place::Placing { view: &mut view, store: &store, wanted: &wanted, owner: None, spool: None };
    let input = Input::Path { tree: &context, path: name.into(), taken: None, unpacks: false };
    placing.input(input, &mut || false)?;
    change(&room.0.join("context").join(name));
    write::write(&store, view, None, None, &mut || false)
}

#[test]
fn a_file_that_changes_before_it_is_read_is_an_error() {
    let room = Room::new("changes");
    let place = room.0.join("context/f");
    let fresh = || std::fs::write(&place, "text").unwrap();
    let outside = room.0.join("base/file");
    fresh();
    assert!(copied(&room, "f", |_| {}).unwrap().is_some());
    let changes: [&dyn Fn(&Path); 5] = [
        &|path| std::fs::write(path, "longer text").unwrap(),
        &|path| std::fs::remove_file(path).unwrap(),
        &|path| {
            std::fs::remove_file(path).unwrap();
            symlink(&outside, path).unwrap();
        },
        &|path| std::fs::rename(&outside, path).unwrap(), // another file of the same length
        &|path| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let _ = std::fs::remove_file(&place);
        fresh();
        let text = copied(&room, "f", change).unwrap_err().to_string();
        assert!(text.contains("/f changed while it was copied"), "{number}: {text}");
    }
}

#[test]
fn holes_stay_holes() {
    let room = Room::new("holes");
    let file = File::create(room.0.join("context/f")).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"data", 32 << 20).unwrap();
    let layer = copied(&room, "f", |_| {}).unwrap().unwrap();
    assert!(layer.descriptor.size < 4096, "{}", layer.descriptor.size);
}
