//! The root of a mount namespace that is somebody else's: it is looked at, and nothing is mounted, moved or masked in it.

use crate::inside::State;
use crate::plan::Plan;
use crate::sys::constants::*;
use crate::sys::fs;
use crate::sys::process;
use crate::sys::{Result, mount};
use crate::wire::role;

/// Enters the namespace whose descriptor came with the plan, or stays in the one that this process was made in.
pub fn enter(plan: &Plan<'_>, state: &mut State<'_>) -> Result<()> {
    if let Some((fd, _)) = plan.fds.with_role(role::NAMESPACE).find(is_mount) {
        process::setns(fd, CLONE_NEWNS)?;
    }
    let root = fs::openat(AT_FDCWD, c"/", O_PATH | O_DIRECTORY, 0)?;
    fs::fchdir(root.raw())?;
    state.root = root.release();
    // For our own looks, attached nowhere: the one of that namespace may show the processes of another pid namespace.
    let proc = mount::fsopen(c"proc")?;
    mount::fsconfig_create(proc.raw())?;
    state.proc = mount::fsmount(proc.raw(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)?.release();
    Ok(())
}

/// It cannot be joined for the moment of the clone, as the others are: a process that leaves its own loses its root.
pub fn is_mount((_, kind): &(i32, i32)) -> bool {
    *kind as u32 as u64 == CLONE_NEWNS
}
