//! The steps of the new root, inside the container's namespaces, as container root. Each resolves its path beneath that root.

use crate::beneath::{directories, is_of_the_root, own_directory, parent_of, resolve};
use crate::outside::Slots;
use crate::pid1::Failed;
use crate::plan::Plan;
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::mount::{self, MountAttr};
use crate::sys::{Errno, Result, net, process, security};
use crate::users::{self, Identity, Unknown};
use crate::wire::{Reader, create, flag, inside as op, late, phase, role, step};
use core::ffi::CStr;

const TMPFS_MAGIC: i64 = 0x0102_1994;
const SAFE: u64 = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

/// Room for what /proc/self/cgroup says of a dozen hierarchies.
pub const CGROUP_TEXT: usize = 2048;

pub struct State<'a> {
    slots: &'a Slots,
    /// The new root, from ROOT on.
    pub root: i32,
    /// This container's own /proc, for every look at it later (H4).
    pub proc: i32,
    /// The terminal's inner end, where one was asked for.
    pub terminal: i32,
    pub landlocked: usize,
    /// /proc/self/cgroup, read before the cgroup namespace hides the host's path.
    pub cgroup: [u8; CGROUP_TEXT],
    pub cgroup_length: usize,
    /// One empty directory for all masked ones.
    empty: i32,
    identity: Option<Identity>,
    /// Why there is none: the lookup's own failure, whichever step asked for it.
    unknown: Option<(u16, Errno)>,
}

impl<'a> State<'a> {
    pub fn new(slots: &'a Slots) -> State<'a> {
        State {
            slots,
            root: -1,
            proc: -1,
            terminal: -1,
            landlocked: 0,
            cgroup: [0; CGROUP_TEXT],
            cgroup_length: 0,
            empty: -1,
            identity: None,
            unknown: None,
        }
    }

    /// Of another command in the same container.
    pub fn beside(slots: &'a Slots, root: i32, proc: i32, landlocked: usize) -> State<'a> {
        State { root, proc, landlocked, ..State::new(slots) }
    }

    /// Who the command runs as, looked up once, in the container's own files.
    pub fn identity(&mut self, plan: &Plan<'_>) -> core::result::Result<&mut Identity, (u16, Errno)> {
        if self.identity.is_none() {
            self.identity = Some(look_up(plan, self.root).inspect_err(|refused| self.unknown = Some(*refused))?);
        }
        self.identity.as_mut().ok_or((step::USER, Errno::NOENT))
    }

    /// A word of `mapped`.
    pub fn mapped(&self) -> u8 {
        self.slots.mapped
    }

    pub fn take_identity(&mut self) -> Option<Identity> {
        self.identity.take()
    }
}

fn look_up(plan: &Plan<'_>, root: i32) -> core::result::Result<Identity, (u16, Errno)> {
    let malformed = (step::DECODE, Errno::PROTO);
    let mut from = plan.command;
    let user = users::read_who(&mut from).ok_or(malformed)?;
    let group = users::read_who(&mut from).ok_or(malformed)?;
    let mut identity = users::resolve(root, user, group).map_err(|unknown| match unknown {
        Unknown::User(errno) => (step::USER, errno),
        Unknown::Group(errno) => (step::GROUP, errno),
        Unknown::Memberships(errno) => (step::SETGROUPS, errno),
    })?;
    if !plan.maps.has_gid(identity.gid) {
        return Err((step::SETGID, Errno::INVAL)); // as setresgid(2) would; but setgroups(2) comes first, and is not to blame
    }
    for index in 0..from.u32().ok_or(malformed)? as u16 {
        let more = users::read_who(&mut from).ok_or(malformed)?;
        users::add_group(root, more, plan.maps, &mut identity).map_err(|errno| (step::GROUPS + index, errno))?;
    }
    Ok(identity)
}

/// Runs the list; an error carries the index of the step.
pub fn run(plan: &Plan<'_>, state: &mut State<'_>) -> core::result::Result<(), Failed> {
    let mut from = plan.inside;
    for index in 0.. {
        let failed = |errno| (phase::INSIDE, index, errno);
        let kind = from.u8().ok_or(failed(Errno::PROTO))?;
        if kind == op::END {
            return Ok(());
        }
        if let Err(errno) = one(kind, &mut from, plan, state) {
            return Err(state.unknown.map_or(failed(errno), |(step, errno)| (phase::COMMAND, step, errno)));
        }
    }
    Ok(())
}

fn one(kind: u8, from: &mut Reader<'_>, plan: &Plan<'_>, state: &mut State<'_>) -> Result<()> {
    match kind {
        op::ROOT => new_root(from, state),
        op::VIEW => crate::view::enter(plan, state),
        op::PROC => {
            let proc = kernel_fs(c"proc", SAFE, &[])?;
            mount::move_mount_onto(proc.raw(), own_directory(state.root, c"proc")?.raw())?;
            state.proc = proc.release();
            Ok(())
        }
        op::SYSFS => place(state, kernel_fs(c"sysfs", SAFE | MOUNT_ATTR_RDONLY, &[])?, c"sys"),
        op::CGROUP2 => place(state, kernel_fs(c"cgroup2", SAFE | MOUNT_ATTR_RDONLY, &[])?, c"sys/fs/cgroup"),
        op::MQUEUE => place(state, kernel_fs(c"mqueue", SAFE, &[])?, c"dev/mqueue"),
        op::DEVPTS => devpts(from, state),
        op::ATTACH => attach(from, state),
        op::MASK | op::READ_ONLY => {
            let path = from.text().ok_or(Errno::PROTO)?;
            match kind {
                op::MASK if plan.head.skips(flag::SKIP_MASKS) => Ok(()),
                op::READ_ONLY if plan.head.skips(flag::SKIP_READ_ONLY) => Ok(()),
                op::MASK => mask(path, state),
                _ => read_only(path, state),
            }
        }
        op::SYSCTL => sysctl(from, state),
        op::WRITE => write(from, plan, state),
        op::PROVIDE => provide(from, state),
        op::MKDIR => make_directory(from, state),
        op::SYMLINK => symlink(from, state),
        op::HOSTNAME => process::sethostname(from.bytes().ok_or(Errno::PROTO)?),
        op::LOOPBACK => net::raise_loopback(),
        // Quota or an outer filter may refuse (EDQUOT at 200 for a plain user): the session's keyring is then nobody's either.
        op::KEYRING => security::join_session_keyring().or(Ok(())),
        op::JOIN_CGROUPS => join_groups(plan),
        op::CGROUP_NAMESPACE => cgroup_namespace(plan, state),
        op::PIVOT if plan.head.skips(flag::SKIP_PIVOT) => Ok(()),
        op::PIVOT => pivot(state, plan.head.skips(flag::SKIP_DETACH)),
        op::ROOT_READ_ONLY => {
            let attr = MountAttr { set: MOUNT_ATTR_RDONLY, ..MountAttr::default() };
            mount::mount_setattr(state.root, false, &attr)
        }
        op::CONSOLE => console(from.u32().ok_or(Errno::PROTO)?, plan, state),
        _ => Err(Errno::PROTO),
    }
}

/// Groups of version 1, which clone3 cannot place a child in. The first write may wait for a grace period of RCU, 5 to 15 ms.
fn join_groups(plan: &Plan<'_>) -> Result<()> {
    if plan.head.skips(flag::SKIP_JOIN) {
        return Ok(());
    }
    if plan.head.has(flag::LATE_GROUPS) {
        return join_late(plan.fds.report);
    }
    plan.fds.with_role(role::JOIN_CGROUP).try_for_each(|(procs, _)| fs::write(procs, b"0").map(drop))
}

/// The host makes them meanwhile. Its death, and its word that there are none, end this container.
fn join_late(report: i32) -> Result<()> {
    let mut word = [late::NONE];
    let received = crate::sys::errno::retry(|| net::receive(report, &mut word, 0))?;
    let procs = &received.fds[..received.fd_count];
    let joined = match word {
        _ if received.truncated => Err(Errno::MFILE),
        [late::HERE] if received.length == 1 => procs.iter().try_for_each(|procs| fs::write(*procs, b"0").map(drop)),
        _ => Err(Errno::CANCELED),
    };
    procs.iter().for_each(|procs| fs::close(*procs));
    joined
}

/// Unshared after the last group was joined: earlier, the host's own path would show inside (v1).
fn cgroup_namespace(plan: &Plan<'_>, state: &mut State<'_>) -> Result<()> {
    let late = plan.head.has(flag::LATE_GROUPS);
    let grouped = late || plan.fds.into_cgroup >= 0 || plan.fds.with_role(role::JOIN_CGROUP).next().is_some();
    // Whichever /proc is at hand: before ROOT the keeper's, afterwards the container's.
    let (proc, path) = if state.proc >= 0 { (state.proc, c"self/cgroup") } else { (AT_FDCWD, c"/proc/self/cgroup") };
    if grouped && let Ok(file) = fs::openat(proc, path, O_RDONLY, 0) {
        state.cgroup_length = fs::read_full(file.raw(), &mut state.cgroup).unwrap_or(0);
    }
    process::unshare(CLONE_NEWCGROUP)
}

/// Attaches the new root over the old one: the kernel's own /proc and /sys must stay visible until ours are mounted.
fn new_root(from: &mut Reader<'_>, state: &mut State<'_>) -> Result<()> {
    state.root = state.slots.get(from.u16().ok_or(Errno::PROTO)?)?;
    mount::make_root_private()?;
    fs::fchdir(state.root)?;
    mount::move_mount_at(state.root, AT_FDCWD, c"/")
}

fn pivot(state: &State<'_>, keep: bool) -> Result<()> {
    fs::fchdir(state.root)?;
    mount::pivot_into_current(keep)?;
    fs::fchdir(state.root)
}

fn kernel_fs(kind: &CStr, attributes: u64, options: &[(&CStr, &CStr)]) -> Result<Fd> {
    let context = mount::fsopen(kind)?;
    options.iter().try_for_each(|(key, value)| mount::fsconfig_string(context.raw(), key, value))?;
    mount::fsconfig_create(context.raw())?;
    mount::fsmount(context.raw(), attributes)
}

fn place(state: &State<'_>, mounted: Fd, path: &CStr) -> Result<()> {
    mount::move_mount_onto(mounted.raw(), own_directory(state.root, path)?.raw())
}

fn devpts(from: &mut Reader<'_>, state: &State<'_>) -> Result<()> {
    let with_group = from.u8().ok_or(Errno::PROTO)? != 0;
    let options: [(&CStr, &CStr); 3] = [(c"ptmxmode", c"666"), (c"mode", c"620"), (c"gid", c"5")];
    let options = if with_group { &options[..] } else { &options[..2] };
    let context = mount::fsopen(c"devpts")?;
    mount::fsconfig_flag(context.raw(), c"newinstance")?;
    options.iter().try_for_each(|(key, value)| mount::fsconfig_string(context.raw(), key, value))?;
    mount::fsconfig_create(context.raw())?;
    place(state, mount::fsmount(context.raw(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)?, c"dev/pts")
}

fn attach(from: &mut Reader<'_>, state: &State<'_>) -> Result<()> {
    let (slot, path) = from.u16().zip(from.text()).ok_or(Errno::PROTO)?;
    let missing = from.u8().ok_or(Errno::PROTO)?;
    if missing == create::OWN {
        return mount::move_mount_onto(state.slots.get(slot)?, own_directory(state.root, path)?.raw());
    }
    let target = match resolve(state.root, path, 0) {
        Err(Errno::NOENT) if missing == create::DIRECTORY => directories(state.root, path, 0o755)?,
        Err(Errno::NOENT) if missing == create::FILE => {
            let (parent, name) = parent_of(state.root, path, &mut [0; 4096])?;
            fs::openat(parent.raw(), name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644)?;
            resolve(parent.raw(), name, O_NOFOLLOW)?
        }
        other => other?,
    };
    refuse_engines_own(&target, state)?;
    mount::move_mount_onto(state.slots.get(slot)?, target.raw())
}

/// A link of the image's can lead a target of the caller's to what only the engine mounts: a bind there would hide the masks or
/// stand in for /proc (CVE-2019-16884), a file there would be a write to a sysctl (CVE-2025-52881).
fn refuse_engines_own(target: &Fd, state: &State<'_>) -> Result<()> {
    // proc, sysfs, cgroup, cgroup2, mqueue, devpts, debugfs
    const KERNELS: [i64; 7] =
        [PROC_SUPER_MAGIC, 0x6265_6572, 0x0027_e0eb, 0x6367_7270, 0x1980_0202, 0x1cd1, 0x6462_6720];
    if KERNELS.contains(&fs::fstatfs(target.raw())?.kind) {
        return Err(Errno::LOOP);
    }
    let seen = fs::fstat(target.raw())?;
    let same = |other: &Fd| fs::fstat(other.raw()).is_ok_and(|own| (own.dev(), own.ino) == (seen.dev(), seen.ino));
    let open = |path| fs::openat2(state.root, path, O_PATH, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    if [c".", c"dev"].map(open).iter().flatten().any(same) { Err(Errno::LOOP) } else { Ok(()) }
}

/// Hides a path: a file behind /dev/null (looked at after it was opened, CVE-2025-31133), a directory behind an empty one.
fn mask(path: &CStr, state: &mut State<'_>) -> Result<()> {
    let target = match resolve(state.root, path, O_NOFOLLOW) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    if fs::fstat(target.raw())?.kind() == S_IFDIR {
        let empty = mount::open_tree_clone(empty_directory(state)?, c"", false);
        // Before 6.15 a detached mount cannot be cloned; then each gets one of its own.
        let empty = empty.or_else(|_| new_empty_directory())?;
        return mount::move_mount_onto(empty.raw(), target.raw());
    }
    let null = fs::openat2(state.root, c"dev/null", O_PATH | O_NOFOLLOW, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)?;
    let seen = fs::fstat(null.raw())?;
    if seen.kind() != S_IFCHR || (seen.rdev_major, seen.rdev_minor) != (1, 3) {
        return Err(Errno::NODATA);
    }
    let clone = mount::open_tree_clone(null.raw(), c"", false)?;
    mount::move_mount_onto(clone.raw(), target.raw())
}

fn empty_directory(state: &mut State<'_>) -> Result<i32> {
    if state.empty < 0 {
        state.empty = new_empty_directory()?.release();
    }
    Ok(state.empty)
}

fn new_empty_directory() -> Result<Fd> {
    kernel_fs(c"tmpfs", SAFE | MOUNT_ATTR_RDONLY, &[(c"size", c"4k"), (c"nr_inodes", c"2"), (c"mode", c"755")])
}

/// Read-only down to the last mount below it (H22), by a recursive clone over itself.
fn read_only(path: &CStr, state: &State<'_>) -> Result<()> {
    let target = match resolve(state.root, path, O_NOFOLLOW) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    let recursive = fs::fstat(target.raw())?.kind() == S_IFDIR;
    let clone = mount::open_tree_clone(target.raw(), c"", recursive)?;
    mount::mount_setattr(clone.raw(), recursive, &MountAttr { set: MOUNT_ATTR_RDONLY, ..MountAttr::default() })?;
    mount::move_mount_onto(clone.raw(), target.raw())
}

/// Written through our own procfs, so that no mount of the image's can stand in the way (CVE-2025-52881).
fn sysctl(from: &mut Reader<'_>, state: &State<'_>) -> Result<()> {
    let (path, value) = from.text().zip(from.bytes()).ok_or(Errno::PROTO)?;
    match fs::write_file(state.proc, path, value) {
        Err(Errno::NOENT) => Ok(()), // a kernel built without it
        other => other,
    }
}

/// A file of the caller's, there before the command starts, owned by its user.
fn write(from: &mut Reader<'_>, plan: &Plan<'_>, state: &mut State<'_>) -> Result<()> {
    let (path, mode) = from.text().zip(from.u32()).ok_or(Errno::PROTO)?;
    let (mut offset, length) = from.u64().zip(from.u64()).ok_or(Errno::PROTO)?;
    let (uid, gid) = match path.to_bytes() {
        // The user is looked up in these: they are written first, and are root's.
        b"etc/passwd" | b"etc/group" => (0, 0),
        _ => state.identity(plan).map(|who| (who.uid, who.gid)).map_err(|(_, errno)| errno)?,
    };
    let (parent, name) = parent_of(state.root, path, &mut [0; 4096])?;
    if !is_of_the_root(parent.raw(), state.root)? && fs::fstatfs(parent.raw())?.kind != TMPFS_MAGIC {
        return Err(Errno::LOOP); // where a link of the image's leads out of what is the container's own (CVE-2025-52881)
    }
    let flags = O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY;
    let file = fs::openat2(parent.raw(), name, flags, 0o600, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)?;
    if fs::fstat(file.raw())?.kind() != S_IFREG {
        return Err(Errno::EXIST);
    }
    let end = offset + length;
    while offset < end {
        let left = (end - offset) as usize;
        if fs::sendfile(file.raw(), plan.fds.files, &mut offset, left)? == 0 {
            return Err(Errno::NODATA);
        }
    }
    fs::fchown(file.raw(), uid, gid)?;
    fs::fchmod(file.raw(), mode)
}

/// What every container has whatever its image says, such as /etc/hosts. Where an image makes that impossible it goes without.
fn provide(from: &mut Reader<'_>, state: &State<'_>) -> Result<()> {
    let (path, content) = from.text().zip(from.bytes()).ok_or(Errno::PROTO)?;
    let _ = provided(path, content, state.root);
    Ok(())
}

fn provided(path: &CStr, content: &[u8], root: i32) -> Result<()> {
    let (parent, name) = parent_of(root, path, &mut [0; 4096])?;
    if !is_of_the_root(parent.raw(), root)? {
        return Err(Errno::LOOP); // as above
    }
    // A link there leads to where another system keeps such a file; it is replaced, not followed.
    match fs::unlinkat(parent.raw(), name, 0) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
    let file = fs::openat(parent.raw(), name, flags, 0o644)?;
    fs::write(file.raw(), content)?;
    fs::fchmod(file.raw(), 0o644)
}

fn make_directory(from: &mut Reader<'_>, state: &State<'_>) -> Result<()> {
    let (path, mode) = from.text().zip(from.u32()).ok_or(Errno::PROTO)?;
    match resolve(state.root, path, O_DIRECTORY) {
        Err(Errno::NOENT) => directories(state.root, path, mode).map(drop),
        other => other.map(drop),
    }
}

fn symlink(from: &mut Reader<'_>, state: &State<'_>) -> Result<()> {
    let (path, target) = from.text().zip(from.text()).ok_or(Errno::PROTO)?;
    let (parent, name) = parent_of(state.root, path, &mut [0; 4096])?;
    fs::symlinkat(target, parent.raw(), name)
}

/// A terminal of the container's own devpts; the outer end goes to the host, the inner one is the command's, without a path between.
fn console(window: u32, plan: &Plan<'_>, state: &mut State<'_>) -> Result<()> {
    let strict = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
    let (master, peer) = terminal(state.root, window)?;
    let identity = state.identity(plan).map_err(|(_, errno)| errno)?;
    fs::fchown(peer.raw(), identity.uid, u32::MAX)?;
    let clone = mount::open_tree_clone(peer.raw(), c"", false)?;
    fs::openat2(state.root, c"dev/console", O_WRONLY | O_CREAT | O_EXCL, 0o600, strict)?;
    let target = fs::openat2(state.root, c"dev/console", O_PATH | O_NOFOLLOW, 0, strict)?;
    mount::move_mount_onto(clone.raw(), target.raw())?;
    net::send(plan.fds.report, &[crate::wire::record::TERMINAL], &[master.raw()], 0)?;
    state.terminal = peer.release();
    Ok(())
}

/// Both ends of a new one, (rows, columns) in one number.
pub fn terminal(root: i32, window: u32) -> Result<(Fd, Fd)> {
    let strict = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
    let master = fs::openat2(root, c"dev/pts/ptmx", O_RDWR | O_NOCTTY, 0, strict)?;
    let peer = fs::pty_peer(master.raw(), ((window >> 16) as u16, window as u16))?;
    Ok((master, peer))
}
