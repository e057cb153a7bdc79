//! A stack of layers as one lock: a record beside the layers that lists them. Who holds its lock stands on all of them.
//!
//! The contract has two halves. Who writes a record holds the lock of each of its layers meanwhile, so that all are there. Who removes a
//! layer first takes the layer's own lock, so that no record of it can be written, and then takes away all that name it, for which nobody
//! may hold one. So a record that is locked and still has its name names nothing that is gone. It is no more than a saving: whoever
//! cannot read, write or lock one takes the layers one by one.

use super::Used;
use crate::gate::Ours;
use crate::image::digest::{Algorithm, Hasher};
use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// Below this a lock for each layer is as cheap.
const TALL: usize = 4;
const SUFFIX: &str = ".stack";
const VERSION: &[u8] = b"pycontainer-stack 1\n";
const END: &[u8] = b"end\n";
/// The random word of one record, in hexadecimal: another one of the same stack has another word.
const WORD: usize = 32;
const HEAD: usize = VERSION.len() + WORD + 1;
/// More layers than an overlay takes.
const RECORD_MAX: usize = HEAD + 512 * 129 + END.len();

/// Where the record of a stack lies, and what it has to say.
pub struct Place {
    layers: PathBuf,
    record: PathBuf,
    lines: Vec<u8>,
}

/// What this process knows of a stack whose record it has read.
pub struct Known {
    word: Vec<u8>,
    /// When something last got or lost a name beside the layers. Then each is looked at again: somebody may have come with rm(1).
    changed: (i64, i64),
    pub seen: Arc<[Stat]>,
    held: Weak<Ours>,
}

impl Known {
    /// As long as another container of this process stands on it.
    pub fn held(&self) -> Option<(Used, Arc<[Stat]>)> {
        Some((self.held.upgrade()?, self.seen.clone()))
    }
}

/// How many of them, from the lowest on, lie in one directory of the store.
pub fn beside_each_other(paths: &[PathBuf]) -> usize {
    let store = |path: &PathBuf| path.parent().and_then(Path::parent).map(Path::to_path_buf);
    let first = paths.first().and_then(store);
    paths.iter().take_while(|path| store(path) == first).count()
}

impl Place {
    /// None of what is no tall stack of one store.
    pub fn of(paths: &[PathBuf]) -> Option<Place> {
        let layers = paths.first()?.parent()?.parent()?;
        if paths.len() < TALL {
            return None;
        }
        let mut lines = Vec::with_capacity(paths.len() * 65);
        for path in paths {
            let directory = path.parent()?;
            let digest = directory.file_name()?.as_bytes();
            if directory.parent()? != layers || !is_digest(digest) {
                return None;
            }
            lines.extend_from_slice(digest);
            lines.push(b'\n');
        }
        let mut hash = Hasher::new(Algorithm::Sha256);
        hash.update(&lines);
        let record = layers.join(format!("{}{SUFFIX}", hash.finish().hex()));
        Some(Place { layers: layers.into(), record, lines })
    }

    pub fn record(&self) -> &Path {
        &self.record
    }

    /// Locked, and each layer looked at: now, or since when nothing has changed beside them.
    pub fn open(&self, known: Option<&Known>, paths: &[PathBuf]) -> Option<(Used, Known)> {
        let file = rustix::fs::open(&self.record, READ, Mode::empty()).ok()?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).ok()?;
        let mut head = [0; HEAD];
        let length = rustix::io::pread(&file, &mut head[..], 0).ok()?;
        // Who removes a layer takes the name of the record away first.
        if rustix::fs::fstat(&file).ok()?.st_nlink == 0 {
            return None;
        }
        if length < HEAD {
            let _ = take_away(rustix::fs::CWD, &self.record, &file); // as below
            return None;
        }
        let word = head[VERSION.len()..].to_vec();
        let top = rustix::fs::stat(&self.layers).ok()?;
        let changed = (top.st_mtime as i64, top.st_mtime_nsec as i64);
        let seen = match known.filter(|known| known.word == word && known.changed == changed) {
            Some(known) => known.seen.clone(),
            None if self.is_said_in(&file) => look(paths)?,
            None => {
                // Half written, when somebody was killed or the power failed.
                let _ = take_away(rustix::fs::CWD, &self.record, &file);
                return None;
            }
        };
        let held = Arc::new(Ours::new(file));
        let known = Known { word, changed, seen, held: Arc::downgrade(&held) };
        Some((held, known))
    }

    fn is_said_in(&self, file: &OwnedFd) -> bool {
        said(&read(file).unwrap_or_default()) == Some(&self.lines)
    }

    /// By who holds the lock of each layer.
    pub fn write(&self) {
        let mut random = [0; WORD / 2];
        if !matches!(rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()), Ok(n) if n == WORD / 2)
        {
            return;
        }
        let word = random.map(|byte| format!("{byte:02x}")).concat();
        let text = [VERSION, word.as_bytes(), b"\n", &self.lines, END].concat();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::open(&self.record, flags, Mode::RUSR | Mode::WUSR) else { return };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && !matches!(rustix::io::write(&file, &text), Ok(n) if n == text.len())
        {
            let _ = take_away(rustix::fs::CWD, &self.record, &file); // the disk is full
        }
    }
}

const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

fn is_digest(name: &[u8]) -> bool {
    matches!(name.len(), 64 | 128) && name.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn look(paths: &[PathBuf]) -> Option<Arc<[Stat]>> {
    let look = |path: &PathBuf| {
        let seen = rustix::fs::lstat(path).ok()?;
        (FileType::from_raw_mode(seen.st_mode) == FileType::Directory).then_some(seen)
    };
    paths.iter().map(look).collect()
}

fn read(file: &OwnedFd) -> rustix::io::Result<Vec<u8>> {
    let mut text = vec![0; RECORD_MAX];
    let mut length = 0;
    loop {
        match rustix::io::pread(file, &mut text[length..], length as u64)? {
            0 => break,
            n => length += n,
        }
    }
    text.truncate(length);
    Ok(text)
}

/// The lines with the layers, of a record that is whole.
fn said(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(VERSION)?.get(WORD + 1..)?.strip_suffix(END)
}

/// Whether it names the layer. Of one that is not whole nobody knows.
fn names(file: &OwnedFd, digest: &str) -> bool {
    let Ok(text) = read(file) else { return true };
    !text.ends_with(END) || text.split(|byte| *byte == b'\n').any(|line| line == digest.as_bytes())
}

/// The name of a record, where nobody stands on it; its lock is ours then. It may have lost that name, and another one have it now, on
/// which somebody stands: a name is taken only from who has it.
fn take_away(layers: BorrowedFd<'_>, name: impl rustix::path::Arg, file: &OwnedFd) -> rustix::io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(false),
        other => other?,
    }
    if rustix::fs::fstat(file)?.st_nlink > 0 {
        rustix::fs::unlinkat(layers, name, AtFlags::empty())?;
    }
    Ok(true)
}

/// The records of which something is true, open.
fn records(layers: BorrowedFd<'_>, is_wanted: impl Fn(&OwnedFd) -> bool) -> rustix::io::Result<Vec<(String, OwnedFd)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(layers)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !name.strip_suffix(SUFFIX).is_some_and(|key| is_digest(key.as_bytes())) {
            continue;
        }
        match rustix::fs::openat(layers, name, READ, Mode::empty()) {
            Ok(file) if is_wanted(&file) => found.push((name.into(), file)),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}

/// Those that name a layer.
fn naming(layers: BorrowedFd<'_>, digest: &str) -> rustix::io::Result<Vec<(String, OwnedFd)>> {
    records(layers, |file| names(file, digest))
}

/// Takes away the records that vouch for nothing: half written, or of layers that are not there.
pub fn sweep(layers: BorrowedFd<'_>) {
    let is_there = |name: &[u8]| rustix::fs::statat(layers, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    let vouches = |file: &OwnedFd| {
        let text = read(file).unwrap_or_default();
        said(&text).is_some_and(|said| said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).all(is_there))
    };
    for (name, file) in records(layers, |file| !vouches(file)).unwrap_or_default() {
        let _ = take_away(layers, &name, &file);
    }
}

/// Whether anybody stands on a stack that has this layer in it. A stack that cannot be looked at is stood on.
pub fn is_taken(layers: BorrowedFd<'_>, digest: &str) -> bool {
    let is_free = |file: &OwnedFd| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_ok();
    naming(layers, digest).map_or(true, |found| !found.iter().all(|(_, file)| is_free(file)))
}

/// Held until the layer has lost its name.
#[derive(Debug)]
pub struct Free(#[allow(dead_code)] Vec<OwnedFd>);

/// Takes away all records that name a layer, whose own lock the caller holds. None where somebody stands on one.
pub fn release(layers: BorrowedFd<'_>, digest: &str) -> rustix::io::Result<Option<Free>> {
    let mut held = Vec::new();
    for (name, file) in naming(layers, digest)? {
        if !take_away(layers, &name, &file)? {
            return Ok(None);
        }
        held.push(file);
    }
    Ok(Some(Free(held)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;

    struct Layers(PathBuf, Vec<PathBuf>);

    impl Layers {
        fn make(name: &str) -> Layers {
            let top = std::env::temp_dir().join(format!("pycontainer-stack-{name}-{}", std::process::id()));
            let paths: Vec<_> = (0..TALL).map(|number| top.join(format!("{number:064x}")).join("rootfs")).collect();
            paths.iter().for_each(|path| fs::create_dir_all(path).unwrap());
            Layers(top, paths)
        }

        fn dir(&self) -> OwnedFd {
            fs::File::open(&self.0).unwrap().into()
        }
    }

    impl Drop for Layers {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn only_a_tall_stack_of_one_store_has_a_place() {
        let layers = Layers::make("place");
        assert!(Place::of(&layers.1).is_some());
        assert!(Place::of(&layers.1[1..]).is_none());
        let mut others = layers.1.clone();
        others[1] = "/elsewhere".into();
        assert!(Place::of(&others).is_none());
        others[1] = layers.0.join("empty/rootfs");
        assert!(Place::of(&others).is_none());
    }

    #[test]
    fn a_record_is_held_and_let_go() {
        let layers = Layers::make("held");
        let (place, dir) = (Place::of(&layers.1).unwrap(), layers.dir());
        let digest = format!("{:064x}", 2);
        assert!(place.open(None, &layers.1).is_none());
        place.write();
        let (held, known) = place.open(None, &layers.1).unwrap();
        assert_eq!(known.seen.len(), TALL);
        assert!(is_taken(dir.as_fd(), &digest));
        assert!(release(dir.as_fd(), &digest).unwrap().is_none());
        assert!(!is_taken(dir.as_fd(), &"f".repeat(64)));
        drop(held);
        assert!(known.held().is_none());
        assert!(!is_taken(dir.as_fd(), &digest));
        assert!(release(dir.as_fd(), &digest).unwrap().is_some());
        assert!(!place.record().exists());
    }

    #[test]
    fn what_was_seen_of_another_record_or_before_a_change_is_not_believed() {
        let layers = Layers::make("seen");
        let place = Place::of(&layers.1).unwrap();
        place.write();
        let (_, known) = place.open(None, &layers.1).unwrap();
        fs::remove_dir(&layers.1[1]).unwrap();
        // Nothing has changed beside the layers: so far it is believed.
        assert!(place.open(Some(&known), &layers.1).is_some());
        fs::remove_dir(layers.1[1].parent().unwrap()).unwrap();
        assert!(place.open(Some(&known), &layers.1).is_none());
    }

    #[test]
    fn nobody_takes_the_name_of_another_record() {
        let layers = Layers::make("name");
        let (place, dir) = (Place::of(&layers.1).unwrap(), layers.dir());
        place.write();
        let old = rustix::fs::open(place.record(), READ, Mode::empty()).unwrap();
        fs::remove_file(place.record()).unwrap();
        place.write();
        let (_held, _) = place.open(None, &layers.1).unwrap();
        assert!(take_away(dir.as_fd(), place.record(), &old).unwrap());
        assert!(place.record().exists());
    }

    #[test]
    fn half_a_record_says_nothing_and_makes_room() {
        let layers = Layers::make("half");
        let place = Place::of(&layers.1).unwrap();
        place.write();
        let whole = fs::read(place.record()).unwrap();
        fs::write(place.record(), &whole[..HEAD + 70]).unwrap();
        assert!(place.open(None, &layers.1).is_none());
        assert!(!place.record().exists());
        for length in [0, HEAD - 1] {
            fs::write(place.record(), &whole[..length]).unwrap(); // as a power cut leaves it
            assert!(place.open(None, &layers.1).is_none());
            assert!(!place.record().exists());
        }
        place.write();
        assert!(place.open(None, &layers.1).is_some());
    }

    #[test]
    fn a_sweep_takes_what_vouches_for_nothing_and_no_more() {
        let layers = Layers::make("sweep");
        let (place, dir) = (Place::of(&layers.1).unwrap(), layers.dir());
        place.write();
        let whole = fs::read(place.record()).unwrap();
        sweep(dir.as_fd());
        assert!(place.record().exists());
        for text in [&whole[..0], &whole[..HEAD + 70], &whole[..whole.len() - END.len()]] {
            fs::write(place.record(), text).unwrap();
            sweep(dir.as_fd());
            assert!(!place.record().exists());
        }
        place.write();
        fs::remove_dir_all(layers.1[2].parent().unwrap()).unwrap();
        sweep(dir.as_fd());
        assert!(!place.record().exists());
    }
}
