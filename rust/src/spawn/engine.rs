//! The engine of this process: its keeper, its id ranges, where groups go. Made at first use, made anew where it no longer fits.

use super::causes::MEMFD_NOEXEC;
use super::keeper::{Keeper, Privileges};
use super::{range, registry, steward, upper};
use crate::cgroup::{self, Place};
use crate::error::{Error, Result};
use crate::image::skeleton;
use crate::mount::layout::Facts;
use crate::runtime;
use crate::security::ids::{self, Pool};
use crate::security::maps::{Line, Maps};
use crate::sys::host::ForkCell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

pub struct Engine {
    pub keeper: Keeper,
    pub place: Place,
    pub facts: Facts,
    pub has_time: bool,
    pub kernel: (u32, u32),
    /// Ranges for containers of their own ids; a plain user has none.
    pool: Option<Pool>,
    /// The keeper's own ids: of a plain user, and which ids of this machine they are.
    pub maps: Maps,
    identity: Identity,
    next: AtomicU64,
    /// When a container last joined a v1 group, or was about to, in nanoseconds.
    attached: AtomicU64,
    skeletons: Mutex<Vec<Skeleton>>,
    notices: Mutex<Notices>,
    /// For driver.rs: why its user has no overlay; None where there is one.
    pub overlay_missing: OnceLock<Option<String>>,
    /// To whoever gives a plain user's layers their owners.
    pub steward: steward::Line,
    /// Where others find its containers; None where no such place can be had.
    home: OnceLock<Option<PathBuf>>,
}

/// What an engine did without being asked: told once, to whoever keeps a log.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Notices {
    /// The pid of the keeper that died, and that this engine's stands in for.
    pub replaced: Option<i32>,
    /// Groups and writable layers of keepers that are gone.
    pub swept_groups: usize,
    pub swept_layers: usize,
}

/// Nanoseconds after an attach in which another one does not wait.
const NO_WAIT: u64 = 10_000_000;

/// Of these trees, and of this owner.
type Skeleton = (Vec<PathBuf>, u32, Arc<OwnedFd>);

/// A keeper serves one process under one identity; another one needs another keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    pid: i32,
    uid: u32,
    gid: u32,
    /// What the kernel tells the keeper of who sends (SCM_CREDENTIALS).
    real: (u32, u32),
    root: bool,
}

fn real_ids() -> (u32, u32) {
    (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
}

fn identity() -> Identity {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Identity {
        pid: rustix::process::getpid().as_raw_nonzero().get(),
        uid,
        gid,
        real: real_ids(),
        root: uid == 0 && has_admin() && in_first_user_namespace(),
    }
}

/// CAP_SYS_ADMIN in the effective set: uid 0 alone says nothing inside somebody's container. By system call: with no descriptor
/// free, a file would say that root is nobody.
fn has_admin() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Root of another one may not make device nodes, nor idmapped mounts of what it does not own: a plain user's road fits it.
fn in_first_user_namespace() -> bool {
    use std::os::unix::fs::MetadataExt;
    const PROC_USER_INIT_INO: u64 = 0xEFFF_FFFD; // include/linux/proc_ns.h
    std::fs::metadata("/proc/self/ns/user").is_ok_and(|seen| seen.ino() == PROC_USER_INIT_INO)
}

type Current = Mutex<Option<Arc<Engine>>>;
static ENGINE: ForkCell<Current> = ForkCell::new(Current::default);

/// The engine of this process, started where there is none that fits.
pub fn current() -> Result<Arc<Engine>> {
    let mut slot = ENGINE.get().lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(engine) = slot.as_ref()
        && engine.identity.fits()
        && engine.keeper.is_alive()
    {
        return Ok(engine.clone());
    }
    // An engine of another identity is left behind, and its keeper lives as long as a run of it.
    let died = slot.as_ref().filter(|engine| engine.identity.fits()).map(|engine| engine.keeper.pid);
    *slot = None;
    let engine = Arc::new(Engine::start()?);
    engine.notices().replaced = died;
    *slot = Some(engine.clone());
    Ok(engine)
}

/// The one that runs, if any: for looking, never for starting.
pub fn running() -> Option<Arc<Engine>> {
    ENGINE.get().lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
}

pub fn forget_in_forked_copy() {
    ENGINE.replace();
}

impl Identity {
    /// Cheap, since it is asked before every run: the ids by system call, not the capabilities.
    fn fits(&self) -> bool {
        let now = (
            rustix::process::getpid().as_raw_nonzero().get(),
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        now == (self.pid, self.uid, self.gid) && real_ids() == self.real
    }
}

impl Engine {
    fn start() -> Result<Engine> {
        let _gate = crate::gate::spawning();
        let identity = identity();
        let place = Place::discover(identity.root);
        let (privileges, maps) = match identity.root {
            true => (Privileges::Privileged, Maps::both(vec![Line::new(0, 0, u32::MAX)])),
            false => range::privileges(identity.uid, identity.gid),
        };
        let keeper = match Keeper::start(&privileges, &place.parents()) {
            // A broken subuid set-up is no reason to have no containers: one id always works.
            Err(Error::NotSupported { .. }) if matches!(privileges, Privileges::Range(_)) => {
                Keeper::start(&Privileges::OneId, &place.parents())
                    .map(|keeper| (keeper, range::one_id(identity.uid, identity.gid)))
            }
            other => other.map(|keeper| (keeper, maps)),
        };
        let (keeper, maps) = keeper?;
        let pool = identity.root.then(open_pool).transpose()?;
        let kernel = crate::sys::version::of_kernel();
        let swept_groups = cgroup::sweep(&place, keeper_is_alive);
        let facts = Facts {
            rootless: !identity.root,
            one_id: !identity.root && maps == range::one_id(identity.uid, identity.gid),
            tty_group: true,
            last_to_ping: 0,
            user_namespace: true,
            cached_layers: kernel >= (6, 15),
            unified_only: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            throttles: super::probe::throttles(),
        };
        let has_time = Path::new("/proc/self/ns/time").exists();
        let engine = Engine {
            keeper,
            place,
            facts,
            has_time,
            kernel,
            pool,
            maps,
            identity,
            next: AtomicU64::new(1),
            attached: AtomicU64::new(0),
            skeletons: Mutex::default(),
            notices: Mutex::default(),
            overlay_missing: OnceLock::new(),
            steward: steward::Line::default(),
            home: OnceLock::new(),
        };
        *engine.notices() = Notices { swept_groups, swept_layers: engine.sweep_uppers(), replaced: None };
        Ok(engine)
    }

    fn notices(&self) -> MutexGuard<'_, Notices> {
        self.notices.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What nobody has been told yet; from now on it is told.
    pub fn take_notices(&self) -> Notices {
        std::mem::take(&mut self.notices())
    }

    /// The directory in which other processes look for its containers, made at the first question. A machine without a place for it
    /// has containers all the same.
    pub fn home(&self) -> Option<&Path> {
        self.home.get_or_init(|| registry::announce(&self.keeper).ok()).as_deref()
    }

    pub fn is_root(&self) -> bool {
        self.identity.root
    }

    /// How many uids a plain user's keeper has; 0 of root, who has all.
    pub fn ids(&self) -> u32 {
        if self.identity.root { 0 } else { self.maps.uid.iter().map(|line| line.count).sum() }
    }

    pub fn pool(&self) -> Option<&Pool> {
        self.pool.as_ref()
    }

    pub fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the next attach to a v1 group will wait for the kernel: none came just before.
    pub fn attach_waits(&self) -> bool {
        crate::sys::process::now().saturating_sub(self.attached.load(Ordering::Relaxed)) > NO_WAIT
    }

    /// A command began then, just after its container had joined.
    pub fn attached(&self, groups: &cgroup::Groups, at: u64) {
        if groups.has_v1() {
            self.attached.fetch_max(at, Ordering::Relaxed);
        }
    }

    /// Called as soon as a container's groups are made (while one waits, the kernel makes none): its wait for the kernel then passes
    /// beside all the rest. Where one has joined just before there is nothing to wait for.
    pub fn expect_attach(&self, groups: &cgroup::Groups) {
        if !groups.has_v1() {
            return;
        }
        let now = crate::sys::process::now();
        let waits = now.saturating_sub(self.attached.swap(now, Ordering::Relaxed)) > NO_WAIT;
        if let Some(procs) = waits.then(|| groups.attached_beside()).flatten() {
            self.keeper.attach_soon(procs.as_fd());
        }
    }

    /// The name of a container's directories: a later engine sweeps those whose keeper is gone.
    pub fn group_name(&self, id: u64) -> String {
        format!("{}{id}", self.keeper.prefix)
    }

    /// Where writable layers on the disk are made; the keeper knows the place before there is anything in it.
    pub fn uppers(&self) -> Result<PathBuf> {
        let store = upper::store()?;
        let directory = upper::open(&store)?;
        self.keeper.announce_uppers(directory.as_fd())?;
        Ok(store)
    }

    /// What keepers left that died by SIGKILL. Files of a plain user's subordinate ids only the new keeper can remove.
    fn sweep_uppers(&self) -> usize {
        if upper::place().exists()
            && let Ok(store) = self.uppers()
        {
            return upper::sweep(&store, keeper_is_alive, |left| self.keeper.remove(left));
        }
        0
    }

    /// The skeleton for these trees: made once, held by its descriptor.
    pub fn skeleton(&self, trees: &[PathBuf], owner: u32) -> Result<Arc<OwnedFd>> {
        let mut kept = self.skeletons.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((.., fd)) = kept.iter().find(|(of, whose, _)| of == trees && *whose == owner) {
            return Ok(fd.clone());
        }
        let fd = Arc::new(self.keeper.skeleton(skeleton::SIZE, skeleton::INODES)?);
        skeleton::fill(fd.as_fd(), trees, owner)?;
        kept.truncate(7);
        kept.insert(0, (trees.to_vec(), owner, fd.clone()));
        Ok(fd)
    }
}

/// What cannot be looked at (no descriptor free) lives: its containers are not ours to end.
pub fn keeper_is_alive(pid: u32, start: u64) -> bool {
    match super::keeper::start_time(pid as i32) {
        Ok(seen) => seen == start,
        Err(error) => !matches!(error.raw_os_error(), Some(2 | 3)), // ENOENT; ESRCH where it ended meanwhile
    }
}

fn open_pool() -> Result<Pool> {
    let subids = [read_accounts("/etc/subuid")?, read_accounts("/etc/subgid")?];
    let accounts = [read_accounts("/etc/passwd")?, read_accounts("/etc/group")?];
    let reserved = ids::reserved(&[&subids[0], &subids[1]], &[&accounts[0], &accounts[1]]);
    let directory = runtime::directory(0).join("ids");
    runtime::make_private_directory(&directory)?;
    Pool::open(&directory, reserved)
}

/// One that is not there reserves nothing; one that cannot be read is no reason to take somebody's ids.
fn read_accounts(path: &str) -> Result<String> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::setup_at("read", path, error.raw_os_error().unwrap_or(5))),
    }
}

/// Where memfds may not be executed (vm.memfd_noexec=2): the file that the wheel carries beside the extension.
pub fn packaged_program() -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let path = PACKAGED.get().cloned().unwrap_or_default();
    let missing = |errno: rustix::io::Errno| {
        Error::unsupported(
            "keeper",
            format!("{}, and {} cannot be opened: {errno}", MEMFD_NOEXEC.why, path.display()),
            MEMFD_NOEXEC.fix,
        )
    };
    let file =
        rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).map_err(missing)?;
    read_only_clone(&file).map_or(Ok(file), Ok)
}

/// A detached, read-only view: what runs from it cannot be written through /proc/PID/exe (CVE-2019-5736). Needs CAP_SYS_ADMIN;
/// without it the file is the user's own, and the container's root is that user.
fn read_only_clone(file: &OwnedFd) -> Option<OwnedFd> {
    use crate::sys::{constants, host, mount};
    use std::os::fd::AsRawFd;
    let clone = mount::open_tree_clone(file.as_raw_fd(), c"", false).ok()?;
    let attr =
        mount::MountAttr { set: constants::MOUNT_ATTR_RDONLY | constants::MOUNT_ATTR_NOSUID, ..Default::default() };
    mount::mount_setattr(clone.raw(), false, &attr).ok()?;
    Some(host::adopt(clone.release()))
}

/// Set once by the Python side, which knows where the package lies.
pub static PACKAGED: OnceLock<PathBuf> = OnceLock::new();
