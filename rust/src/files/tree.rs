//! A container's writable layer, or its whole root, as the entries of an archive: what is the container's of it, under whole names and
//! with the container's ids. Everything that an agent says is checked; nothing is resolved.

mod fill;
mod ids;
mod item;

use self::fill::Fill;
pub use self::ids::capability;
use self::ids::inside;
pub use self::item::{Ids, Item, Kind, Taker, Wanted};
use super::refused;
use super::session::{Door, Session, broken};
use crate::error::{Error, Result};
use crate::sys::Errno;
use crate::transfer::input::Input;
use crate::transfer::{BUFFER, Stream, attributes};
use crate::wire::EntryHead;
use crate::wire::files::{ask, change, changed, entry, segment};
use std::collections::HashMap;
use std::ffi::CStr;

const LAYER: &str = "read the container's layer";
const WHOLE: &str = "read the container's root";
/// PATH_MAX without its NUL.
const NAME_MAX: usize = 4095;
const AS_IT_WAS: u64 = changed::COPIED | changed::RIGHTS | changed::TIME;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const CAPABILITY: &[u8] = b"security.capability";

pub fn tree(door: Door<'_>, wanted: &Wanted<'_>, taker: &mut dyn Taker) -> Result<()> {
    let (what, step) = match wanted {
        Wanted::Layer { .. } => (ask::LAYER, LAYER),
        Wanted::Whole { .. } => (ask::WHOLE, WHOLE),
    };
    let session = Session::open(door, what, &[b"/"])?;
    let mut buffer = vec![0; BUFFER];
    read(Input::new(session, &mut buffer), step, wanted, taker)
}

/// What an agent says, to its end. `step`: for errors.
pub fn read<S: Stream>(
    input: Input<'_, S>,
    step: &'static str,
    wanted: &Wanted<'_>,
    taker: &mut dyn Taker,
) -> Result<()> {
    Reading { input, step, wanted, taker, open: Vec::new(), inodes: HashMap::new(), next: Next::default() }.all()
}

/// A directory whose content is being told.
struct Open {
    item: Item,
    /// The engine may have made it: nobody was told of it yet, and is only when there is something in it.
    waits: bool,
    rights: bool,
}

/// What was said of the entry that comes next.
#[derive(Default)]
struct Next {
    change: Option<(u32, u64)>,
    inode: Option<(u64, u64)>,
    regions: Vec<(u64, u64)>,
}

struct Reading<'a, 't, S> {
    input: Input<'a, S>,
    step: &'static str,
    wanted: &'t Wanted<'t>,
    taker: &'t mut dyn Taker,
    open: Vec<Open>,
    /// (device, inode) of files with several names, and the first of them.
    inodes: HashMap<(u64, u64), Vec<u8>>,
    next: Next,
}

impl<S: Stream> Reading<'_, '_, S> {
    fn all(mut self) -> Result<()> {
        loop {
            let step = self.step;
            let entry = self.input.entry().map_err(|errno| broken(step, b"/", errno))?;
            let (head, name) = (entry.head, entry.name.to_bytes().to_vec());
            let extra = if entry.extra.is_empty() { Vec::new() } else { entry.extra.to_vec() };
            let fits = match head.kind {
                entry::DIRECTORY => self.open.is_empty() == name.is_empty(),
                entry::FILE | entry::LINK | entry::NODE | entry::WHITEOUT | entry::LEFT_OUT => {
                    !self.open.is_empty() && !name.is_empty()
                }
                entry::LEAVE | entry::OPAQUE => !self.open.is_empty(),
                _ => name.is_empty(),
            };
            if !fits {
                return Err(self.senseless());
            }
            match head.kind {
                entry::VERDICT => return Err(refused(self.step, &extra, Errno(head.mode as i32))),
                entry::END => return Ok(()),
                entry::LEAVE => self.leave()?,
                entry::CHANGE => self.next.change = Some((head.mode, head.size)),
                entry::INODE => self.next.inode = Some((head.seconds, head.size)),
                entry::REGION => self.next.regions.push((head.size, head.seconds)),
                entry::OPAQUE => self.opaque()?,
                entry::LEFT_OUT => {
                    let path = [b"/", &*self.path(&name)?].concat();
                    return Err(refused(self.step, &path, Errno(head.size as i32)));
                }
                _ => {
                    self.one(&head, &name, &extra)?;
                    self.next = Next::default();
                }
            }
        }
    }

    fn senseless(&self) -> Error {
        broken(self.step, b"/", Errno::PROTO)
    }

    fn path(&self, name: &[u8]) -> Result<Vec<u8>> {
        let path = match self.open.last() {
            None => b".".to_vec(),
            Some(above) if above.item.name == b"." => name.to_vec(),
            Some(above) => [&above.item.name, &b"/"[..], name].concat(),
        };
        if path.len() > NAME_MAX {
            return Err(refused(self.step, &path, Errno::NAMETOOLONG));
        }
        Ok(path)
    }

    fn one(&mut self, head: &EntryHead, name: &[u8], extra: &[u8]) -> Result<()> {
        let changes = matches!(self.wanted, Wanted::Layer { .. });
        if !matches!(self.wanted, Wanted::Whole { as_layer: false }) && name.starts_with(WHITEOUT) {
            let path = String::from_utf8_lossy(&self.path(name)?).into_owned();
            return Err(Error::Layer(format!("/{path}: a layer has no place for names that begin with .wh.")));
        }
        if self.is_provided(head.kind, name)? {
            return if head.kind == entry::FILE { self.content(&[], &[]) } else { Ok(()) };
        }
        let (kind, link, xattrs) = match head.kind {
            entry::WHITEOUT if changes => return self.mark(&[WHITEOUT, name].concat()),
            entry::DIRECTORY => (Kind::Directory, Vec::new(), self.xattrs(extra)?),
            entry::FILE => (Kind::File, Vec::new(), self.xattrs(extra)?),
            entry::LINK => match CStr::from_bytes_with_nul(extra) {
                Ok(target) if !target.is_empty() => (Kind::Link, target.to_bytes().to_vec(), Vec::new()),
                _ => return Err(self.senseless()),
            },
            entry::NODE => (self.node(head)?, Vec::new(), Vec::new()),
            _ => return Err(self.senseless()),
        };
        let (uid, gid) = self.owner(head);
        let item = Item {
            kind,
            name: self.path(name)?,
            link,
            mode: head.mode & 0o7777,
            uid,
            gid,
            mtime: (head.seconds as i64, head.nanos),
            size: if kind == Kind::File { head.size } else { 0 },
            regions: None,
            xattrs,
        };
        match kind {
            Kind::Directory => self.enter(item),
            Kind::File => self.file(item),
            _ => self.tell(&item),
        }
    }

    fn is_provided(&self, kind: u8, name: &[u8]) -> Result<bool> {
        let Wanted::Layer { own, .. } = self.wanted else { return Ok(false) };
        Ok(kind != entry::DIRECTORY && own.provides(&[b"/", &*self.path(name)?].concat()))
    }

    fn node(&self, head: &EntryHead) -> Result<Kind> {
        let (major, minor) = ((head.size >> 32) as u32, head.size as u32);
        match head.mode & libc::S_IFMT {
            libc::S_IFIFO => Ok(Kind::Fifo),
            libc::S_IFCHR => Ok(Kind::CharDevice(major, minor)),
            libc::S_IFBLK => Ok(Kind::BlockDevice(major, minor)),
            _ => Err(self.senseless()),
        }
    }

    fn owner(&self, head: &EntryHead) -> (u32, u32) {
        match self.wanted {
            Wanted::Layer { uids, gids, .. } => (inside(uids, head.uid), inside(gids, head.gid)),
            Wanted::Whole { .. } => (head.uid, head.gid),
        }
    }

    fn xattrs(&self, mut block: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut found = Vec::new();
        while let Some((name, value, rest)) = attributes::next(block) {
            let value = match self.wanted {
                Wanted::Layer { uids, .. } if name.to_bytes() == CAPABILITY => capability(value, uids),
                _ => value.to_vec(),
            };
            found.push((name.to_bytes().to_vec(), value));
            block = rest;
        }
        found.sort();
        if block.is_empty() { Ok(found) } else { Err(self.senseless()) }
    }

    /// Directories above that nobody was told of come first.
    fn tell(&mut self, item: &Item) -> Result<()> {
        for open in self.open.iter_mut().filter(|open| open.waits) {
            open.waits = false;
            self.taker.item(&open.item)?;
        }
        self.taker.item(item)
    }

    fn enter(&mut self, item: Item) -> Result<()> {
        let (kind, flags) = self.next.change.unwrap_or((change::ADDED, 0));
        let path = [b"/", &*item.name].concat();
        let rights = kind == change::ENTERED && flags & changed::RIGHTS != 0;
        let is_root = self.open.is_empty();
        let (waits, rights) = match self.wanted {
            Wanted::Layer { own, .. } if !is_root && kind != change::CHANGED && own.leads(&path) => {
                (true, rights && !own.is(&path))
            }
            // Of a copied root, and as it was.
            Wanted::Layer { .. } if !is_root && flags & AS_IT_WAS == changed::COPIED => (true, false),
            _ => (false, rights),
        };
        // Every image has a root: a layer speaks of it where it is another's or may be entered by others.
        if !waits && (!is_root || rights || matches!(self.wanted, Wanted::Whole { .. })) {
            self.tell(&item)?;
        }
        self.open.push(Open { item, waits, rights });
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        let Some(open) = self.open.pop() else { return Err(self.senseless()) };
        if open.waits && open.rights { self.tell(&open.item) } else { Ok(()) }
    }

    fn opaque(&mut self) -> Result<()> {
        if matches!(self.wanted, Wanted::Whole { .. }) {
            return Err(self.senseless());
        }
        self.mark(OPAQUE)
    }

    /// An empty file whose name says something of the layer below; about itself it says nothing.
    fn mark(&mut self, name: &[u8]) -> Result<()> {
        let item = Item {
            kind: Kind::File,
            name: self.path(name)?,
            link: Vec::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            size: 0,
            regions: None,
            xattrs: Vec::new(),
        };
        self.tell(&item)
    }

    fn file(&mut self, mut item: Item) -> Result<()> {
        let added_empty = self.next.change == Some((change::ADDED, changed::EMPTY));
        let path = [b"/", &*item.name].concat();
        if let Wanted::Layer { own, .. } = self.wanted
            && added_empty
            && own.is(&path)
        {
            return self.content(&item.name, &[]);
        }
        if let Some(inode) = self.next.inode {
            if let Some(first) = self.inodes.get(&inode) {
                let link =
                    Item { kind: Kind::HardLink, link: first.clone(), size: 0, xattrs: Vec::new(), ..item.clone() };
                self.content(&item.name, &[])?;
                return self.tell(&link);
            }
            self.inodes.insert(inode, item.name.clone());
        }
        if !self.next.regions.is_empty() {
            item.regions = Some(self.regions(item.size)?);
        }
        self.tell(&item)?;
        let whole = [(0, item.size)];
        self.content(&item.name, item.regions.as_deref().unwrap_or(&whole))
    }

    /// In order, apart from each other and within the file; where it ends with a hole, a last one says where (tar's own convention).
    fn regions(&mut self, size: u64) -> Result<Vec<(u64, u64)>> {
        let mut regions = std::mem::take(&mut self.next.regions);
        let mut end = 0u64;
        for (offset, length) in &regions {
            let fits = *offset >= end && offset.checked_add(*length).is_some_and(|end| end <= size);
            end = if fits { offset + length } else { return Err(self.senseless()) };
        }
        if end < size {
            regions.push((size, 0));
        }
        Ok(regions)
    }

    /// The content, as it was announced: what the container adds meanwhile is left out, and what it cuts off is an error.
    fn content(&mut self, name: &[u8], regions: &[(u64, u64)]) -> Result<()> {
        let mut fill = Fill { regions, at: 0, taker: &mut *self.taker };
        let (step, path) = (self.step, [b"/", name].concat());
        let cut = |errno| broken(step, &path, errno);
        let mut at = 0u64;
        loop {
            match self.input.u32().map_err(cut)? {
                segment::END => break,
                segment::BROKEN => {
                    let errno = Errno(self.input.u32().map_err(cut)? as i32);
                    return Err(refused(step, &path, errno));
                }
                segment::HOLE => at = at.saturating_add(self.input.u64().map_err(cut)?),
                count => {
                    let mut left = count as usize;
                    while left > 0 {
                        let data = self.input.some(left).map_err(cut)?;
                        if !fill.put(at, data)? {
                            return Err(changed_meanwhile(step, &path));
                        }
                        at = at.saturating_add(data.len() as u64);
                        left -= data.len();
                    }
                }
            }
        }
        if fill.ends_well() { Ok(()) } else { Err(changed_meanwhile(step, &path)) }
    }
}

fn changed_meanwhile(step: &str, path: &[u8]) -> Error {
    let note = "it became shorter while it was read; nothing does in a container that is paused or has exited";
    let path = Some(String::from_utf8_lossy(path).into_owned());
    Error::Setup { step: step.into(), path, errno: libc::EAGAIN, note: Some(note.into()) }
}
