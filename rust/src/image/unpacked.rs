//! Where what was unpacked lies: one directory per digest, complete or not there. Any number of processes share it.

use super::archive::Totals;
use super::locks::{self, Check, Lock};
use super::owned::{self, Owners};
use super::remove::remove_tree;
use super::steward;
use super::used;
use crate::error::{Error, Result};
use crate::runtime::make_private_directory;
use crate::sys::btrfs;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is unpacked, and the version of how: raised when a tree would come out otherwise, so that it is unpacked again.
#[derive(Debug, Clone, Copy)]
pub struct Sort {
    pub directory: &'static str,
    pub version: &'static str,
}

/// Root file systems of archives, by the digest of the archive.
pub const ARCHIVES: Sort = Sort { directory: "archives", version: "pycontainer-archive 2" };
/// Layers of images, by their diff id.
pub const LAYERS: Sort = Sort { directory: "layers", version: "pycontainer-layer 3" };
/// Directories as they are in a stack of layers, where the layers by themselves say otherwise (implied.rs).
pub const ATTRIBUTES: Sort = Sort { directory: "attributes", version: "pycontainer-attributes 2" };
/// All layers of an image in one tree, by a digest of which they are.
pub const UNIONS: Sort = Sort { directory: "unions", version: "pycontainer-union 2" };
/// The same as subvolumes of a btrfs, of which there are snapshots.
pub const SUBVOLUMES: Sort = Sort { directory: "subvolumes", version: "pycontainer-subvolume 2" };
/// As unions, and no file in it has two names.
pub const APART: Sort = Sort { directory: "apart", version: "pycontainer-apart 1" };

/// As unions, but copies, with the owners of the containers of one range of ids.
pub const SHIFTED: Sort = Sort { directory: "shifted", version: "pycontainer-shifted 1" };

const RECORD: &str = "complete";
/// Beside a tree of a plain user's that has files of others: which ids these have (owned.rs), or that all are the user's.
const OWNERS: &str = "owners";
/// Beside it: the devices that are not in it, a NUL after each.
const LEFT_OUT: &str = "left_out";
/// Beside a layer: names of directories, a NUL after each. Not there where all are described.
const IMPLIED: &str = "implied";
const ROOTFS: &str = "rootfs";
pub const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

#[derive(Debug)]
pub struct Unpacked {
    sort: Sort,
    dir: OwnedFd,
    path: PathBuf,
}

/// A directory under a name that says it is not complete.
#[derive(Debug)]
pub struct Unfinished<'a> {
    store: &'a Unpacked,
    name: String,
    dir: OwnedFd,
}

fn failed(step: &str, errno: Errno) -> Error {
    match errno {
        Errno::NOSPC | Errno::DQUOT => Error::NoSpace { path: None },
        _ => Error::setup(step, errno.raw_os_error()),
    }
}

impl Unpacked {
    pub fn open(parent: &Path, sort: Sort) -> Result<Unpacked> {
        let path = parent.join(sort.directory);
        make_private_directory(parent)?;
        make_private_directory(&path)?;
        let dir = rustix::fs::open(&path, DIRECTORY, Mode::empty());
        let fail = |errno: Errno| Error::setup_at("open the store", path.display().to_string(), errno.raw_os_error());
        Ok(Unpacked { sort, dir: dir.map_err(fail)?, path })
    }

    pub fn is_of(&self, sort: Sort) -> bool {
        self.sort.directory == sort.directory
    }

    pub fn rootfs(&self, digest: &str) -> PathBuf {
        self.path.join(digest).join(ROOTFS)
    }

    /// Trusts nothing but a whole record of this digest, beside a directory.
    pub fn is_complete(&self, digest: &str) -> bool {
        let seen = rustix::fs::statat(&self.dir, format!("{digest}/{ROOTFS}"), AtFlags::SYMLINK_NOFOLLOW);
        let is_directory = seen.is_ok_and(|seen| FileType::from_raw_mode(seen.st_mode) == FileType::Directory);
        let text = self.record(digest).unwrap_or_default();
        is_directory && text.starts_with(&self.first_lines(digest)) && text.ends_with("end\n")
    }

    /// Complete, and with the owners that it should have. A user's range may have changed, or come, since it was unpacked; where a
    /// container stands on it, it stays as it is.
    pub fn is_there(&self, digest: &str) -> bool {
        self.is_complete(digest) && (rustix::process::geteuid().is_root() || self.has_owners(digest))
    }

    fn has_owners(&self, digest: &str) -> bool {
        let Some(given) = self.read(digest, OWNERS) else { return true };
        let Some(steward) = steward::lent() else { return true };
        given == owned::named(steward.maps()) || self.is_used(digest)
    }

    fn record(&self, digest: &str) -> Option<String> {
        self.read(digest, RECORD)
    }

    fn read(&self, digest: &str, name: &str) -> Option<String> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&self.dir, format!("{digest}/{name}"), flags, Mode::empty(), resolve).ok()?;
        let mut buffer = [0; 1024];
        let length = rustix::io::read(&file, &mut buffer).ok()?;
        String::from_utf8(buffer[..length].to_vec()).ok()
    }

    /// How many entries were unpacked.
    pub fn entries(&self, digest: &str) -> Option<u64> {
        self.record(digest)?.lines().find_map(|line| line.strip_prefix("entries ")?.parse().ok())
    }

    /// Since it was unpacked. None of what is not there, or of a clock that was set back.
    pub fn age(&self, digest: &str) -> Option<Duration> {
        let made = std::fs::metadata(self.path.join(digest).join(RECORD)).and_then(|seen| seen.modified()).ok()?;
        made.elapsed().ok()
    }

    /// Whether a complete layer has directories that none of its entries describes.
    pub fn has_implied(&self, digest: &str) -> bool {
        rustix::fs::statat(&self.dir, format!("{digest}/{IMPLIED}"), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Those directories.
    pub fn implied(&self, digest: &str) -> Result<Vec<Vec<u8>>> {
        let path = self.path.join(digest).join(IMPLIED);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| {
                Error::setup_at("read a layer's record", path.display().to_string(), error.raw_os_error().unwrap_or(5))
            })?,
        };
        Ok(text.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
    }

    /// Bytes of all files that are complete, as their records say.
    pub fn used(&self) -> u64 {
        let of = |digest: &String| {
            let record = self.record(digest)?;
            record.lines().find_map(|line| line.strip_prefix("bytes ")).and_then(|bytes| bytes.parse::<u64>().ok())
        };
        self.complete().iter().filter_map(of).sum()
    }

    fn first_lines(&self, digest: &str) -> String {
        let algorithm = if digest.len() == 128 { "sha512" } else { "sha256" };
        format!("{}\n{algorithm}:{digest}\n", self.sort.version)
    }

    /// Waits for whoever unpacks the same.
    pub fn lock(&self, digest: &str, check: Check<'_>) -> Result<Lock> {
        locks::lock(self.dir.as_fd(), digest, check)
    }

    /// None while somebody unpacks the same.
    pub fn try_lock(&self, digest: &str) -> Result<Option<Lock>> {
        locks::try_lock(self.dir.as_fd(), digest)
    }

    /// Removes what processes that died while unpacking have left: of the digest whose lock we hold, and of those whose lock is
    /// free.
    pub fn sweep(&self, held: Option<&Lock>) {
        let names = self.names();
        let digests: BTreeSet<&str> = names.iter().filter_map(|name| leftover_of(name)).collect();
        for digest in digests {
            let other = if held.is_some_and(|held| held.is_of(digest)) {
                None
            } else {
                Some(locks::try_lock(self.dir.as_fd(), digest))
            };
            if matches!(other, Some(Err(_) | Ok(None))) {
                continue;
            }
            for name in names.iter().filter(|name| name.ends_with(".tmp") && leftover_of(name) == Some(digest)) {
                let _ = self.remove(name);
            }
        }
    }

    /// Of records of stacks, what a process that died or a power cut has left.
    pub fn sweep_stacks(&self) {
        used::sweep(self.dir.as_fd());
    }

    fn names(&self) -> Vec<String> {
        let Ok(listing) = Dir::read_from(&self.dir) else { return Vec::new() };
        listing.filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_string)).collect()
    }

    fn remove(&self, name: &str) -> rustix::io::Result<()> {
        if self.is_of(SUBVOLUMES) {
            // By itself: nothing is moved out of it.
            let inner = rustix::fs::openat(&self.dir, name, DIRECTORY, Mode::empty())?;
            let at_once = btrfs::destroy_subvolume(inner.as_raw_fd(), c"rootfs").is_ok();
            match if at_once { Ok(()) } else { remove_tree(inner.as_fd(), c"rootfs") } {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        remove_tree(self.dir.as_fd(), &CString::new(name).unwrap_or_default())
    }

    /// The digests of all that is complete.
    pub fn complete(&self) -> Vec<String> {
        let is_digest = |name: &String| name.len() == 64 && leftover_of(&format!("{name}.lock")).is_some();
        self.names().into_iter().filter(|name| is_digest(name) && self.is_complete(name)).collect()
    }

    /// Whether a container stands on it.
    pub fn is_used(&self, digest: &str) -> bool {
        used::is_taken(self.dir.as_fd(), digest, &self.rootfs(digest))
    }

    /// False where a container stands on it, or somebody is at it.
    pub fn remove_unused(&self, digest: &str) -> Result<bool> {
        let fail = |errno| failed("remove what was unpacked", errno);
        // Who sweeps leaves what is set aside to us. On a full disk there may be no room for a lock, and it has to go all the same.
        let _lock = match self.try_lock(digest) {
            Ok(None) => return Ok(false),
            other => other,
        };
        let root = match rustix::fs::openat(&self.dir, format!("{digest}/{ROOTFS}"), DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(true),
            other => other.map_err(fail)?,
        };
        if !used::is_free(&root) {
            return Ok(false);
        }
        let Some(_free) = used::release(self.dir.as_fd(), digest).map_err(fail)? else { return Ok(false) };
        // Set aside first: whatever the moment of a crash, no half of a tree under its name.
        let aside = unfinished_name(digest)?;
        rustix::fs::renameat_with(&self.dir, digest, &self.dir, &aside, RenameFlags::NOREPLACE).map_err(fail)?;
        match self.remove(&aside) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(errno) => Err(fail(errno)),
        }
    }

    /// A new directory for that whose lock is held, with an empty root of mode 0755 in it.
    pub fn unfinished(&self, digest: &str) -> Result<Unfinished<'_>> {
        let name = unfinished_name(digest)?;
        let fail = |errno| failed("make a directory in the store", errno);
        rustix::fs::mkdirat(&self.dir, &name, Mode::RWXU).map_err(fail)?;
        let opened = rustix::fs::openat(&self.dir, &name, DIRECTORY, Mode::empty());
        let dir = opened.map_err(fail)?;
        let unfinished = Unfinished { store: self, name, dir };
        let made = rustix::fs::mkdirat(&unfinished.dir, ROOTFS, Mode::RWXU);
        match made.and_then(|()| rustix::fs::fchmod(unfinished.root()?, Mode::from_raw_mode(0o755))) {
            Ok(()) => Ok(unfinished),
            Err(errno) => {
                unfinished.discard();
                Err(fail(errno))
            }
        }
    }
}

/// Whether it is the root of an archive in a store: somebody may remove what nobody stands on.
pub fn is_archive(path: &Path) -> bool {
    let is_named = |path: &Path, name: &str| path.file_name().is_some_and(|found| found == name);
    let directory = path.parent().and_then(Path::parent);
    is_named(path, ROOTFS) && directory.is_some_and(|directory| is_named(directory, ARCHIVES.directory))
}

/// The devices that a complete tree should have and a plain user may not make, of the tree with this root: "c 1:3 dev/null".
pub fn left_out(root: &Path) -> Vec<String> {
    let text = std::fs::read(root.with_file_name(LEFT_OUT)).unwrap_or_default();
    let names = text.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// 128 random bits, so that no two attempts ever meet.
fn unfinished_name(digest: &str) -> Result<String> {
    let mut random = [0; 16];
    let got = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    got.map_err(|errno| failed("get random bytes", errno))?;
    Ok(format!("{digest}.{:032x}.tmp", u128::from_ne_bytes(random)))
}

/// The digest of an unfinished directory or a lock file.
fn leftover_of(name: &str) -> Option<&str> {
    let (digest, rest) = name.split_at(name.find('.')?);
    let is_digest =
        matches!(digest.len(), 64 | 128) && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_ours = rest == ".lock" || rest.len() == 37 && rest.ends_with(".tmp");
    (is_digest && is_ours).then_some(digest)
}

impl Unfinished<'_> {
    pub fn root(&self) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat(&self.dir, ROOTFS, DIRECTORY, Mode::empty())
    }

    /// Its root as a subvolume of its own, of a btrfs.
    pub fn into_subvolume(self) -> Result<Self> {
        rustix::fs::unlinkat(&self.dir, ROOTFS, AtFlags::REMOVEDIR)
            .map_err(|errno| failed("remove a directory", errno))?;
        let made = btrfs::make_subvolume(self.dir.as_raw_fd(), c"rootfs");
        made.map_err(|errno| failed("make a subvolume", Errno::from_raw_os_error(errno.0)))?;
        Ok(self)
    }

    pub fn discard(self) {
        let _ = self.store.remove(&self.name);
    }

    pub fn publish(self, digest: &str, totals: Totals) -> Result<()> {
        publish(self.store, vec![(self, digest, totals)])
    }

    fn write_record(&self, digest: &str, totals: &Totals) -> rustix::io::Result<()> {
        let text =
            format!("{}entries {}\nbytes {}\nend\n", self.store.first_lines(digest), totals.entries, totals.bytes);
        if !totals.implied.is_empty() {
            let names: Vec<u8> = totals.implied.iter().flat_map(|name| [name, &b"\0"[..]].concat()).collect();
            self.write(IMPLIED, &names)?;
        }
        if !totals.left_out.is_empty() {
            self.write(LEFT_OUT, &totals.left_out)?;
        }
        match &totals.owners {
            Owners::Own => {}
            Owners::Lost => self.write(OWNERS, b"lost")?,
            Owners::Given(maps) => self.write(OWNERS, maps.as_bytes())?,
        }
        self.write(RECORD, text.as_bytes())
    }

    fn write(&self, name: &str, mut data: &[u8]) -> rustix::io::Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        while !data.is_empty() {
            match rustix::io::write(&file, data)? {
                0 => return Err(Errno::NOSPC),
                written => data = &data[written..],
            }
        }
        Ok(())
    }

    /// What lies under the name now is not complete, or it would have been used: it is set aside and removed.
    fn rename(&self, digest: &str) -> rustix::io::Result<()> {
        let store: BorrowedFd<'_> = self.store.dir.as_fd();
        if rustix::fs::statat(store, digest, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            let aside = unfinished_name(digest).map_err(|_| Errno::IO)?;
            rustix::fs::renameat_with(store, digest, store, &aside, RenameFlags::NOREPLACE)?;
            let _ = self.store.remove(&aside);
        }
        rustix::fs::renameat_with(store, &self.name, store, digest, RenameFlags::NOREPLACE)
    }
}

/// Data first, then the records that vouch for it, then the names: whatever the moment of a crash, no name without data. The disk is
/// waited for three times, however many there are.
pub fn publish(store: &Unpacked, ready: Vec<(Unfinished<'_>, &str, Totals)>) -> Result<()> {
    let done = publish_all(store, &ready);
    done.map_err(|errno| {
        for (unfinished, ..) in &ready {
            let _ = store.remove(&unfinished.name); // not there under this name: it was published
        }
        failed("complete what was unpacked", errno)
    })
}

fn publish_all(store: &Unpacked, ready: &[(Unfinished<'_>, &str, Totals)]) -> rustix::io::Result<()> {
    rustix::fs::syncfs(&store.dir)?;
    for (unfinished, digest, totals) in ready {
        unfinished.write_record(digest, totals)?;
    }
    rustix::fs::syncfs(&store.dir)?;
    for (unfinished, digest, _) in ready {
        unfinished.rename(digest)?;
    }
    rustix::fs::fsync(&store.dir)
}
