//! What a container has changed in its layer, as docker diff tells it: which of the agent's lines are the container's, and which ours.

use super::refused;
use super::session::{Door, Session, broken};
use crate::error::Result;
use crate::sys::Errno;
use crate::transfer::BUFFER;
use crate::transfer::input::Input;
use crate::wire::EntryHead;
use crate::wire::files::{ask, change, changed, entry};

const DIFF: &str = "compare the layers";

/// "A", "C" or "D", and the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub kind: char,
    pub path: Vec<u8>,
}

/// Sorted by path.
pub fn changes(door: Door<'_>, own: &Own) -> Result<Vec<Change>> {
    let session = Session::open(door, ask::DIFF, &[b"/"])?;
    let mut buffer = vec![0; BUFFER];
    let mut input = Input::new(session, &mut buffer);
    let mut tree = Tree { own, open: Vec::new(), found: Vec::new() };
    loop {
        let entry = input.entry().map_err(|errno| broken(DIFF, b"/", errno))?;
        let EntryHead { kind, mode, size, .. } = entry.head;
        match kind {
            entry::CHANGE => tree.add(entry.name.to_bytes(), mode, size),
            entry::LEAVE => tree.leave(),
            entry::END => return Ok(tree.finish()),
            entry::VERDICT => return Err(refused(DIFF, b"/", Errno(mode as i32))),
            _ => return Err(broken(DIFF, b"/", Errno::PROTO)),
        }
    }
}

/// What the engine does in a root file system, by absolute paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    /// Where it mounts or makes something: what is there and empty is not the container's doing.
    pub made: Vec<String>,
    /// Files that it gives to every container, in place of the image's: whatever becomes of them, they are not part of it.
    pub provided: Vec<String>,
}

impl Own {
    pub fn is(&self, path: &[u8]) -> bool {
        self.made.iter().any(|own| own.as_bytes() == path)
    }

    pub fn provides(&self, path: &[u8]) -> bool {
        self.provided.iter().any(|own| own.as_bytes() == path)
    }

    /// It is one of ours, or was made on the way to one.
    pub fn leads(&self, path: &[u8]) -> bool {
        let below =
            |own: &String| own.as_bytes().strip_prefix(path).is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
        self.made.iter().chain(&self.provided).any(below)
    }
}

/// A directory whose content is being told.
struct Open {
    path: Vec<u8>,
    kind: u32,
    flags: u64,
    /// Something in it is shown.
    shows: bool,
}

struct Tree<'a> {
    own: &'a Own,
    open: Vec<Open>,
    found: Vec<Change>,
}

impl Tree<'_> {
    fn add(&mut self, name: &[u8], kind: u32, flags: u64) {
        let above = self.open.last().map_or(&b""[..], |open| &open.path);
        let path = [above, b"/", name].concat();
        if flags & changed::DIRECTORY != 0 {
            self.open.push(Open { path, kind, flags, shows: false });
        } else if !(kind == change::ADDED && flags & changed::EMPTY != 0 && self.own.is(&path)
            || self.own.provides(&path))
        {
            self.show(path, kind);
        }
    }

    fn leave(&mut self) {
        let Some(Open { path, kind, flags, shows }) = self.open.pop() else { return };
        let (own, leads) = (self.own.is(&path), self.own.leads(&path));
        let shown = match kind {
            change::ENTERED => shows || flags & changed::RIGHTS != 0 && !own || flags & changed::TIME != 0 && !leads,
            change::ADDED => shows || !leads,
            _ => true,
        };
        // For the container it was there from the start.
        let kind = if kind == change::ADDED && leads { change::CHANGED } else { kind };
        if shown {
            self.show(path, kind);
        }
    }

    fn show(&mut self, path: Vec<u8>, kind: u32) {
        if let Some(above) = self.open.last_mut() {
            above.shows = true;
        }
        let kind = match kind {
            change::ADDED => 'A',
            change::DELETED => 'D',
            _ => 'C',
        };
        self.found.push(Change { kind, path });
    }

    fn finish(mut self) -> Vec<Change> {
        self.found.sort_by(|a, b| a.path.cmp(&b.path));
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(own: &[&str], steps: impl Fn(&mut Tree<'_>)) -> Vec<String> {
        let own = Own { made: own.iter().map(|own| own.to_string()).collect(), provided: vec!["/etc/hosts".into()] };
        let mut tree = Tree { own: &own, open: Vec::new(), found: Vec::new() };
        steps(&mut tree);
        let line = |change: Change| format!("{} {}", change.kind, String::from_utf8_lossy(&change.path));
        tree.finish().into_iter().map(line).collect()
    }

    #[test]
    fn directories_with_changes_are_changed_and_lines_are_sorted() {
        let lines = told(&[], |tree| {
            tree.add(b"usr", change::ENTERED, changed::DIRECTORY);
            tree.add(b"gone", change::DELETED, 0);
            tree.add(b"b", change::ADDED, 0);
            tree.leave();
            tree.add(b"etc", change::ENTERED, changed::DIRECTORY);
            tree.leave();
            tree.add(b"a", change::CHANGED, 0);
        });
        assert_eq!(lines, ["C /a", "C /usr", "A /usr/b", "D /usr/gone"]);
    }

    #[test]
    fn what_the_engine_provides_never_shows() {
        let lines = told(&[], |tree| {
            tree.add(b"etc", change::ENTERED, changed::DIRECTORY | changed::TIME);
            for kind in [change::ADDED, change::CHANGED, change::DELETED] {
                tree.add(b"hosts", kind, 0);
            }
            tree.leave();
        });
        assert_eq!(lines, [""; 0]);
    }

    #[test]
    fn what_the_engine_made_does_not_show_until_something_is_in_it() {
        let mount_point = |tree: &mut Tree<'_>, file: bool| {
            tree.add(b"mnt", change::ADDED, changed::DIRECTORY);
            tree.add(b"data", change::ADDED, changed::DIRECTORY);
            if file {
                tree.add(b"x", change::ADDED, changed::EMPTY);
            }
            tree.leave();
            tree.leave();
        };
        assert_eq!(told(&["/mnt/data"], |tree| mount_point(tree, false)), [""; 0]);
        assert_eq!(told(&["/mnt/data"], |tree| mount_point(tree, true)), ["C /mnt", "C /mnt/data", "A /mnt/data/x"]);
        // /mnt leads to ours, /mnt/data does not: names are compared whole.
        assert_eq!(told(&["/mnt/database"], |tree| mount_point(tree, false)), ["C /mnt", "A /mnt/data"]);
        assert_eq!(told(&["/mn"], |tree| mount_point(tree, false)), ["A /mnt", "A /mnt/data"]);
    }
}
