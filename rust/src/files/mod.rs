//! The host's side of files in containers: one session with an agent of the keeper for each errand. Resolves no path of a container's.

mod changes;
mod copy;
mod session;
pub mod tree;
mod whole;

pub use changes::{Change, Own, changes};
pub use copy::{copy_in, copy_out};
pub use session::Door;
pub use whole::{read, write};

use crate::error::Error;
use crate::sys::Errno;
use crate::wire::files::refusal;

const ENOTDIR: i32 = 20;
const EROFS: i32 = 30;
const EXDEV: i32 = 18;
const EBUSY: i32 = 16;

/// What went wrong among the files of a container, with the cause where the number alone does not say it.
fn refused(step: &str, path: &[u8], errno: Errno) -> Error {
    let note = match errno.0 {
        refusal::UNKNOWN => return Error::State("the container has no files any more: its handle is closed".into()),
        refusal::SPECIAL => Some("it is a device, a fifo or a socket: only files, directories and links are copied"),
        refusal::KERNELS => Some("what the kernel makes up (/proc, /sys and the like) is neither read nor written"),
        refusal::ELSEWHERE => Some("it lies in another layer: this kernel's overlay renames by reference"),
        refusal::DEEP => Some("more than 256 directories in each other"),
        EROFS => Some("it is read-only in the container"),
        EBUSY => Some("something is mounted there: a mount point cannot be replaced"),
        ENOTDIR => Some("what stands where a directory is needed is none; a link in a tree is not followed"),
        EXDEV => Some("it lies on another mount"),
        _ => None,
    };
    let path = Some(String::from_utf8_lossy(path).into_owned());
    Error::Setup { step: step.into(), path, errno: errno.0, note: note.map(str::to_string) }
}

/// Two parts of a path.
fn join(top: &[u8], rest: &[u8]) -> Vec<u8> {
    match rest {
        [] => top.to_vec(),
        rest => [top.strip_suffix(b"/").unwrap_or(top), b"/", rest].concat(),
    }
}
