//! Privilege dropping: capabilities, Landlock, seccomp, keyrings. No policy.

use super::constants::*;
use super::fs::Fd;
use super::process::prctl;
use super::{Errno, Result, call, nr};

/// Sets the effective and permitted sets of this thread; the inheritable set becomes empty.
pub fn capset(mask: u64) -> Result<()> {
    set(mask, 0)
}

/// These and no other, also for the program that is executed next (the ambient set), whoever it runs as.
pub fn keep_through_exec(mask: u64) -> Result<()> {
    set(mask, mask)?;
    let raise = |capability| prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability).map(drop);
    (0..64).filter(|capability| mask >> capability & 1 == 1).try_for_each(raise)
}

fn set(mask: u64, inheritable: u64) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let half = |set: u64, high: bool| if high { (set >> 32) as u32 } else { set as u32 };
    let part = |high| [half(mask, high), half(mask, high), half(inheritable, high)];
    let ([a, b, c], [d, e, f]) = (part(false), part(true));
    let sets = [a, b, c, d, e, f];
    // SAFETY: header and data live across the call and have version 3's layout.
    unsafe { call(nr::CAPSET, [header.as_ptr() as usize, sets.as_ptr() as usize]) }.map(drop)
}

/// Cuts the bounding set down to `keep`. Capabilities that this kernel does not know end the walk.
pub fn cut_bounding_set(keep: u64) -> Result<()> {
    for capability in 0..64 {
        if keep >> capability & 1 == 1 {
            continue;
        }
        match prctl(PR_CAPBSET_DROP, capability, 0) {
            Ok(_) => {}
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Loads a classic BPF program (struct sock_filter, 8 bytes each) as this thread's seccomp filter.
pub fn seccomp_load(program: &[u8]) -> Result<()> {
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    #[repr(C)]
    struct SockFprog {
        length: u16,
        filter: *const u8,
    }
    let count = u16::try_from(program.len() / 8).map_err(|_| Errno::INVAL)?;
    let header = SockFprog { length: count, filter: program.as_ptr() };
    // SAFETY: program and header live across the call; the kernel copies byte-wise, so alignment is free.
    unsafe { call(nr::SECCOMP, [SECCOMP_SET_MODE_FILTER, 0, &raw const header as usize]) }.map(drop)
}

pub fn landlock_abi() -> Result<usize> {
    const LANDLOCK_CREATE_RULESET_VERSION: usize = 1;
    // SAFETY: a version query takes no pointer.
    unsafe { call(nr::LANDLOCK_CREATE_RULESET, [0, 0, LANDLOCK_CREATE_RULESET_VERSION]) }
}

/// A ruleset that handles the file-system rights of `rights`.
pub fn landlock_ruleset(rights: u64) -> Result<Fd> {
    // SAFETY: the first field of struct landlock_ruleset_attr, of 8 bytes, lives across the call.
    unsafe { call(nr::LANDLOCK_CREATE_RULESET, [&raw const rights as usize, 8, 0]) }.map(|fd| Fd::own(fd as i32))
}

pub fn landlock_allow_beneath(ruleset: i32, directory: i32, rights: u64) -> Result<()> {
    const LANDLOCK_RULE_PATH_BENEATH: usize = 1;
    #[repr(C, packed)]
    struct PathBeneath {
        rights: u64,
        parent: i32,
    }
    let rule = PathBeneath { rights, parent: directory };
    let arguments = [ruleset as usize, LANDLOCK_RULE_PATH_BENEATH, &raw const rule as usize, 0];
    // SAFETY: the rule lives across the call and has the UAPI's packed layout.
    unsafe { call(nr::LANDLOCK_ADD_RULE, arguments) }.map(drop)
}

pub fn landlock_enter(ruleset: i32) -> Result<()> {
    // SAFETY: no pointers.
    unsafe { call(nr::LANDLOCK_RESTRICT_SELF, [ruleset as usize, 0]) }.map(drop)
}

/// A new anonymous session keyring (a named one hits the user's quota).
pub fn join_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
    // SAFETY: a null name.
    unsafe { call(nr::KEYCTL, [KEYCTL_JOIN_SESSION_KEYRING, 0]) }.map(drop)
}
