//! A root file system that a program shows: fuse-overlayfs, over one tree and the writable layer, where the kernel gives no overlay.
//! Mounted here, detached, and served by a child of the keeper, which daemons.rs remembers.
//!
//! The program is in none of the container's namespaces and groups: nobody inside can name it, and who is to be killed does not wait for
//! it. It has the container's root for its ids, the capabilities of a file server and no other, and a root directory of its own, in
//! which there are its two directories, programs and libraries of this machine, and a /proc, all of it but the writable layer read-only.

use crate::launch::abandon;
use crate::outside::Slots;
use crate::overlay;
use crate::plan::Plan;
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::memory::{self, Arena};
use crate::sys::mount::{self, MountAttr};
use crate::sys::process::{self, Cloned, WordArray};
use crate::sys::{Errno, Result, security};
use crate::wire::{Decimal, Fixed, Reader, Sink, role};
use core::ffi::CStr;

/// To show and change files of all of a container's ids as its users may, who are looked at by the kernel (default_permissions).
const CAPABILITIES: u64 = CAP_CHOWN | CAP_DAC_OVERRIDE | CAP_FOWNER | CAP_FSETID | CAP_MKNOD | CAP_SETFCAP;
/// Where it finds its end of the mount: libfuse takes "/dev/fd/N" for one that is mounted (3.3).
const DEVICE: i32 = 3;
const AT_DEVICE: &CStr = c"/dev/fd/3";
/// Nothing needs to survive a power failure; and what is written is in the layer at once, where others read it.
const OPTIONS: &[u8] = b"lowerdir=/lower,volatile,writeback=0,upperdir=/upper/";
/// Of this machine, for the program and its libraries.
const SHOWN: [(&CStr, &CStr); 5] =
    [(c"/usr", c"usr"), (c"/bin", c"bin"), (c"/lib", c"lib"), (c"/lib64", c"lib64"), (c"/lib32", c"lib32")];

/// Killed and reaped with this, unless it was given away.
pub struct Daemon {
    pub pid: i32,
    pub pidfd: Fd,
}

impl Daemon {
    pub const NONE: Daemon = Daemon { pid: 0, pidfd: Fd::NONE };

    pub fn release(mut self) -> (i32, i32) {
        (core::mem::take(&mut self.pid), core::mem::replace(&mut self.pidfd, Fd::NONE).release())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.pid > 0 {
            abandon(self.pidfd.raw(), self.pid);
        }
    }
}

struct Served<'a> {
    program: &'a CStr,
    lower: i32,
    upper: i32,
    upper_name: &'a CStr,
    work_name: &'a CStr,
    attributes: u64,
}

fn read<'a>(from: &mut Reader<'a>, slots: &Slots) -> Result<Served<'a>> {
    let program = from.text().ok_or(Errno::PROTO)?;
    let (lower, upper) = from.u16().zip(from.u16()).ok_or(Errno::PROTO)?;
    let (upper_name, work_name) = from.text().zip(from.text()).ok_or(Errno::PROTO)?;
    let attributes = from.u64().ok_or(Errno::PROTO)?;
    Ok(Served { program, lower: slots.get(lower)?, upper: slots.get(upper)?, upper_name, work_name, attributes })
}

/// The mount. Its program is started and not waited for: who asks for a file first waits for it, or hears that it is gone (ENOTCONN).
pub fn make(from: &mut Reader<'_>, plan: &Plan<'_>, slots: &mut Slots) -> Result<Fd> {
    let served = read(from, slots)?;
    let device = fs::openat(AT_FDCWD, c"/dev/fuse", O_RDWR, 0)?;
    let mounted = mounted(device.raw(), served.attributes)?;
    let log = plan.fds.with_role(role::DAEMON_LOG).next().map_or(-1, |(fd, _)| fd);
    let keeper = process::getpid();
    slots.daemon = match process::clone_copy(CLONE_NEWNS, None)? {
        Cloned::Parent { pid, pidfd } => Daemon { pid, pidfd },
        Cloned::Child => {
            let errno = run(&served, [device.raw(), log], keeper);
            say(log, errno);
            process::exit_group(1)
        }
    };
    Ok(mounted)
}

/// Of the keeper's user namespace, in which the device was opened. The kernel looks at rights, and lets everybody in.
fn mounted(device: i32, attributes: u64) -> Result<Fd> {
    let context = mount::fsopen(c"fuse")?;
    let set = |key, value: &CStr| mount::fsconfig_string(context.raw(), key, value);
    set(c"fd", Decimal::new(device as u64).text())?;
    set(c"rootmode", c"40000")?;
    set(c"user_id", c"0")?;
    set(c"group_id", c"0")?;
    mount::fsconfig_flag(context.raw(), c"allow_other")?;
    mount::fsconfig_flag(context.raw(), c"default_permissions")?;
    mount::fsconfig_create(context.raw())?;
    mount::fsmount(context.raw(), attributes)
}

/// As the program itself would say it.
fn say(log: i32, errno: Errno) {
    let mut line = Fixed::<64>::new();
    line.put(b"it could not be executed: error ");
    line.put(Decimal::new(errno.0.unsigned_abs() as u64).bytes());
    line.put(b"\n");
    // Where that is closed already, it is the standard error.
    let _ = fs::write(log, line.bytes()).or_else(|_| fs::write(2, line.bytes()));
}

/// Comes back with the error only.
fn run(served: &Served<'_>, fds: [i32; 2], keeper: i32) -> Errno {
    let mut options = Fixed::<256>::new();
    let upper_and_work = [served.upper_name.to_bytes(), b",workdir=/upper/", served.work_name.to_bytes(), b"\0"];
    [OPTIONS].into_iter().chain(upper_and_work).for_each(|part| options.put(part));
    let options = CStr::from_bytes_until_nul(options.bytes()).map_err(|_| Errno::NAMETOOLONG);
    let ready = options.and_then(|options| {
        let mut words = Arena::of(memory::map_bytes(4096)?);
        let mut argv = WordArray::with_room(6, &mut words)?;
        [served.program, c"-f", c"-o", options, AT_DEVICE].into_iter().try_for_each(|word| argv.push(word))?;
        let envp = WordArray::with_room(0, &mut words)?;
        enter_own_root(served, fds)?;
        give_up_power(keeper)?;
        Ok(process::exec(served.program, &argv, &envp))
    });
    ready.unwrap_or_else(|errno| errno)
}

fn enter_own_root(served: &Served<'_>, [device, log]: [i32; 2]) -> Result<()> {
    let null = fs::openat(AT_FDCWD, c"/dev/null", O_RDWR, 0)?;
    mount::make_root_private()?;
    let root = overlay::scratch_root()?;
    furnish(root.raw())?;
    place(root.raw(), clone(served.lower, c"", false)?, c"lower", false)?;
    place(root.raw(), clone(served.upper, c"", true)?, c"upper", false)?;
    fs::fchdir(root.raw())?;
    mount::pivot_into_current(false)?;
    keep([null.raw(), null.raw(), if log >= 0 { log } else { null.raw() }, device])
}

/// Its ids are the keeper's of this moment, the container's root's: whose else a file is, it is told.
fn give_up_power(keeper: i32) -> Result<()> {
    let _ = process::setgroups(&[]); // a keeper of one id may not, and has its user's alone
    process::setrlimit(RLIMIT_CORE, 0, 0)?;
    process::prctl(PR_SET_NO_NEW_PRIVS, 1, 0)?;
    security::cut_bounding_set(CAPABILITIES)?;
    security::keep_through_exec(CAPABILITIES)?;
    process::prctl(PR_SET_PDEATHSIG, SIGKILL as usize, 0)?;
    if process::getppid() == keeper { Ok(()) } else { Err(Errno::SRCH) }
}

/// A plain machine has links in place of some of them, or none at all.
fn furnish(root: i32) -> Result<()> {
    for (path, name) in SHOWN {
        let mut target = [0u8; 256];
        match fs::statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW) {
            Ok(seen) if seen.kind() == S_IFDIR => place(root, clone(AT_FDCWD, path, false)?, name, false)?,
            Ok(seen) if seen.kind() == S_IFLNK => {
                let length = fs::readlinkat(AT_FDCWD, path, &mut target[..255])?;
                target[length] = 0;
                let target = CStr::from_bytes_until_nul(&target).map_err(|_| Errno::NAMETOOLONG)?;
                fs::symlinkat(target, root, name)?;
            }
            _ => {}
        }
    }
    place(root, clone(AT_FDCWD, c"/proc", false)?, c"proc", false)?;
    fs::mkdirat(root, c"etc", 0o755)?;
    match clone(AT_FDCWD, c"/etc/ld.so.cache", false) {
        Ok(cache) => place(root, cache, c"etc/ld.so.cache", true),
        Err(_) => Ok(()),
    }
}

/// Without devices and set-id bits, and read-only unless it is the writable layer. Before 6.15 a detached mount cannot be cloned: then
/// the mount itself, which nobody mounts again.
fn clone(from: i32, path: &CStr, writable: bool) -> Result<Fd> {
    let detached = path.is_empty();
    let made = match mount::open_tree_clone(from, path, !detached) {
        Err(Errno::INVAL) if detached => fs::dup_above(from, DEVICE + 1)?,
        other => other?,
    };
    let read_only = if writable { 0 } else { MOUNT_ATTR_RDONLY };
    let attr = MountAttr { set: MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | read_only, ..MountAttr::default() };
    mount::mount_setattr(made.raw(), !detached, &attr)?;
    Ok(made)
}

fn place(root: i32, mount: Fd, name: &CStr, is_file: bool) -> Result<()> {
    if is_file {
        fs::openat(root, name, O_WRONLY | O_CREAT | O_EXCL, 0o644)?.close();
    } else {
        fs::mkdirat(root, name, 0o755)?;
    }
    mount::move_mount_at(mount.raw(), root, name)
}

/// These descriptors, from 0 on, and no other.
fn keep(wanted: [i32; DEVICE as usize + 1]) -> Result<()> {
    let mut copies = [const { Fd::NONE }; DEVICE as usize + 1];
    for (copy, fd) in copies.iter_mut().zip(wanted) {
        *copy = fs::dup_above(fd, DEVICE + 1)?;
    }
    copies.iter().zip(0..).try_for_each(|(copy, place)| fs::dup_onto(copy.raw(), place, false))?;
    fs::close_range(DEVICE as u32 + 1, u32::MAX, false)
}
