//! Evidence of single promises: that the root is the root, how large it is, the command's rlimits and its OOM score. Reads only.

use crate::evidence::put_file;
use crate::inside::State;
use crate::sys::Result;
use crate::sys::constants::AT_FDCWD;
use crate::sys::fs::{self, Fd};
use crate::wire::{Write, evidence as section, flag};

/// Of the file system that PID 1, and so the command, sees as its root.
pub fn of_root(state: &State<'_>, out: &mut impl Write) {
    let id = |seen: fs::Statx| (seen.dev(), seen.ino);
    let own = fs::fstat(state.root).map(id);
    // Where the old root was not taken away it still lies over the new one, and ".." leads into it.
    let is_root = |path| own.is_ok() && fs::statx(AT_FDCWD, path, 0).map(id) == own;
    out.put_u8(section::ROOT);
    out.put_u8(u8::from(is_root(c"/") && is_root(c"/..")));
    out.put_u8(section::SIZE);
    out.put_u64(fs::fstatfs(state.root).map_or(u64::MAX, |seen| seen.blocks * seen.block_size as u64));
}

/// Of the command, by its files in /proc: only where somebody asked for such a limit, and will look.
pub fn of_limits(flags: u32, open: impl Fn(&[u8]) -> Result<Fd>, out: &mut impl Write) {
    if flags & flag::TELL_LIMITS != 0 {
        put_file(section::RLIMITS, open(b"/limits"), out);
        put_file(section::OOM_SCORE, open(b"/oom_score_adj"), out);
    }
}
