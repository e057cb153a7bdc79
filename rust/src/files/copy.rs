//! Files and trees between this machine and a container. What is on this machine is the caller's: its names are resolved as anybody's.

use super::session::{Door, Session, Verdict, broken};
use super::{join, refused};
use crate::error::{Error, Result};
use crate::sys::Errno;
use crate::sys::fs::Fd;
use crate::transfer::input::Input;
use crate::transfer::output::Output;
use crate::transfer::pack::{self, Bounds, Packer};
use crate::transfer::unpack::{self, Place, Rules, Unpacker};
use crate::transfer::{BUFFER, EXTRA_MAX, LEVELS, LIST_MAX, NAMES};
use crate::wire::files::ask;
use rustix::fs::{Mode, OFlags};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

const IN: &str = "copy into the container";
const OUT: &str = "copy out of the container";
const PARENT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const TREE: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// `source` of this machine becomes `target` in the container.
pub fn copy_in(door: Door<'_>, source: &[u8], target: &[u8]) -> Result<()> {
    let (parent, name) = split(source).map_err(|errno| refused(IN, source, errno))?;
    let temporary = temporary()?;
    let session = Session::open(door, ask::UNPACK, &[target, temporary.to_bytes()])?;
    let (mut buffer, mut names) = (vec![0; BUFFER], vec![0; LEVELS * NAMES]);
    let mut extra = vec![0; EXTRA_MAX + LIST_MAX];
    let mut packer = Packer::new(Output::new(session, &mut buffer), &mut names, &mut extra, Bounds::default());
    match packer.pack(parent.as_raw_fd(), &name) {
        Err(pack::Fault::Here(errno)) => return Err(refused(IN, source, errno)),
        Err(pack::Fault::Stream(Errno::CANCELED)) => return Err(broken(IN, target, Errno::CANCELED)),
        Ok(()) | Err(pack::Fault::Stream(_)) => {}
    }
    let said = packer.out.stream.verdict().map_err(|errno| broken(IN, target, errno))?;
    match said {
        Verdict { errno: Errno(0), left: (0, _), .. } => Ok(()),
        Verdict { errno: Errno(0), left, path } => Err(left_out(IN, &join(source, &path), left)),
        Verdict { errno, path, .. } => Err(refused(IN, &join(target, &path), errno)),
    }
}

/// `source` in the container becomes `target` of this machine.
pub fn copy_out(door: Door<'_>, source: &[u8], target: &[u8]) -> Result<()> {
    let here = |errno| refused(OUT, target, errno);
    let (parent, name) = split(strip(target)).map_err(here)?;
    let temporary = temporary()?;
    let session = Session::open(door, ask::PACK, &[source])?;
    let mut buffer = vec![0; BUFFER];
    let rules = Rules { exact_modes: false, set_ids_on: None, no_kernels: false };
    let mut unpacker = Unpacker::new(Input::new(session, &mut buffer), rules);
    // What an earlier copy has left there may be a link of the container's: it is not followed.
    let existing = || match rustix::fs::openat(&parent, &*name, TREE, Mode::empty()) {
        Ok(directory) => Ok(Fd::own(directory.into_raw_fd())),
        Err(errno) => Err(Errno(errno.raw_os_error())),
    };
    let place = Place { parent: parent.as_raw_fd(), name: &name, temporary: &temporary, existing: &existing };
    match unpacker.unpack(&place) {
        Ok(()) if unpacker.left.count == 0 => Ok(()),
        Ok(()) => {
            let left = (unpacker.left.count, Errno(unpacker.left.errno));
            Err(left_out(OUT, &join(source, unpacker.left.first.text()), left))
        }
        Err(unpack::Fault::Here(errno)) => Err(refused(OUT, &join(target, unpacker.trail.text()), errno)),
        Err(unpack::Fault::Sender(errno)) => Err(refused(OUT, &join(source, unpacker.trail.text()), errno)),
        Err(unpack::Fault::Stream(errno)) => Err(broken(OUT, source, errno)),
    }
}

fn left_out(step: &str, first: &[u8], (count, errno): (u64, Errno)) -> Error {
    let others = if count == 1 { String::new() } else { format!(", as {} others", count - 1) };
    let error = refused(step, first, errno);
    let Error::Setup { step, path, errno, note } = error else { return error };
    let why = note.map_or(String::new(), |note| format!("{note}; "));
    Error::Setup { step, path, errno, note: Some(format!("{why}it was left out{others}; the rest is copied")) }
}

fn strip(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(1, |last| last + 1);
    &path[..end.min(path.len())]
}

/// The directory of a path and the name in it: "." where the path itself says that it is a directory ("link/" is what it leads to).
fn split(path: &[u8]) -> std::result::Result<(OwnedFd, CString), Errno> {
    let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (parent, name) = match &path[start..] {
        b"" | b"." | b".." => (path, &b"."[..]),
        name if start == 0 => (&b"."[..], name),
        name => (&path[..start], name),
    };
    let parent = rustix::fs::open(OsStr::from_bytes(parent), PARENT, Mode::empty());
    let parent = parent.map_err(|errno| Errno(errno.raw_os_error()))?;
    Ok((parent, CString::new(name).map_err(|_| Errno::INVAL)?))
}

/// A name that nobody has.
pub fn temporary() -> Result<CString> {
    let mut bytes = [0u8; 16];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| ("get random bytes", errno))?;
    let name: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    CString::new(format!(".pycontainer-{name}")).map_err(|_| Error::setup("make a name", Errno::INVAL.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_directory_and_a_name() {
        let name = |path: &[u8]| split(path).map(|(_, name)| name.to_bytes().to_vec());
        assert_eq!(name(b"/tmp"), Ok(b"tmp".to_vec()));
        for directory in [&b"/"[..], b"/tmp/", b"/tmp/.", b"/tmp/..", b"."] {
            assert_eq!(name(directory), Ok(b".".to_vec()));
        }
        assert_eq!(strip(b"/a//"), b"/a");
        assert_eq!(strip(b"//"), b"/");
        assert_ne!(temporary(), temporary());
    }
}
