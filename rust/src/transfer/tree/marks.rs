//! What a writable layer says of the layers below besides its files: in attributes, as the kernel's overlay does, or in names, as
//! fuse-overlayfs does where it has to.

use crate::sys::constants::{AT_SYMLINK_NOFOLLOW, S_IFREG};
use crate::sys::{Errno, fs, xattr};
use core::ffi::CStr;

/// The attributes of an overlay's own: in a user namespace it keeps them in user.*, elsewhere in trusted.*; the others are the container's.
#[derive(Clone, Copy)]
pub struct Marks {
    /// By which a directory says that it hides those below.
    opaque: &'static CStr,
    /// By which a name says that what it stands for lies elsewhere.
    elsewhere: [&'static CStr; 2],
    /// They are those of fuse-overlayfs: names that no container on it can use.
    served: bool,
}

/// What a name is, besides the name of something.
pub enum Note<'n> {
    None,
    /// This one was removed.
    Gone(&'n CStr),
    Other,
}

const GONE: &[u8] = b".wh.";
/// In the directory that hides those below; others that begin so are unfinished.
const OPAQUE: &CStr = c".wh..wh..opq";

impl Marks {
    /// Whiteouts as an overlay has them, or, where it could make none, as names; and names for what else it has to say. Nothing of it
    /// leads elsewhere.
    pub const SERVED: Marks = Marks { opaque: OPAQUE, elsewhere: [c"", c""], served: true };

    pub fn of(rootless: bool) -> Marks {
        let [opaque, redirect, metacopy] = match rootless {
            true => [c"user.overlay.opaque", c"user.overlay.redirect", c"user.overlay.metacopy"],
            false => [c"trusted.overlay.opaque", c"trusted.overlay.redirect", c"trusted.overlay.metacopy"],
        };
        Marks { opaque, elsewhere: [redirect, metacopy], served: false }
    }

    pub fn is_opaque(&self, directory: i32) -> bool {
        match self.served {
            true => fs::statx(directory, self.opaque, AT_SYMLINK_NOFOLLOW).is_ok(),
            false => matches!(xattr::fgetxattr(directory, self.opaque, &mut [0; 8]), Ok(1)),
        }
    }

    pub fn leads_elsewhere(&self, fd: i32) -> bool {
        let is_set = |name| !matches!(xattr::fgetxattr(fd, name, &mut [0; 1]), Err(Errno::NODATA | Errno::OPNOTSUPP));
        !self.served && self.elsewhere.into_iter().any(is_set)
    }

    /// Of a name in a directory of the layer. Where the name that is said to be gone is there again, that tells more; and it takes its
    /// own mark of a directory for a name that has to be hidden, by a device.
    pub fn note<'n>(&self, directory: i32, name: &'n CStr) -> Note<'n> {
        let bytes = name.to_bytes_with_nul();
        let Some(gone) = bytes.strip_prefix(GONE).filter(|_| self.served) else { return Note::None };
        let look = |name| fs::statx(directory, name, AT_SYMLINK_NOFOLLOW);
        let is_note = look(name).is_ok_and(|seen| seen.kind() == S_IFREG);
        match CStr::from_bytes_with_nul(gone) {
            Ok(gone) if is_note && !gone.is_empty() && !gone.to_bytes().starts_with(GONE) => match look(gone) {
                Err(Errno::NOENT) => Note::Gone(gone),
                _ => Note::Other,
            },
            _ => Note::Other,
        }
    }
}
