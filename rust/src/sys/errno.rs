//! Error numbers as the kernel returns them. No text: that is the host's business.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

pub type Result<T> = core::result::Result<T, Errno>;

impl Errno {
    pub const PERM: Errno = Errno(1);
    pub const NOENT: Errno = Errno(2);
    pub const SRCH: Errno = Errno(3);
    pub const INTR: Errno = Errno(4);
    pub const IO: Errno = Errno(5);
    pub const NXIO: Errno = Errno(6);
    pub const TOOBIG: Errno = Errno(7);
    pub const NOEXEC: Errno = Errno(8);
    pub const BADF: Errno = Errno(9);
    pub const CHILD: Errno = Errno(10);
    pub const AGAIN: Errno = Errno(11);
    pub const NOMEM: Errno = Errno(12);
    pub const ACCES: Errno = Errno(13);
    pub const BUSY: Errno = Errno(16);
    pub const EXIST: Errno = Errno(17);
    pub const XDEV: Errno = Errno(18);
    pub const NOTDIR: Errno = Errno(20);
    pub const ISDIR: Errno = Errno(21);
    pub const INVAL: Errno = Errno(22);
    pub const NFILE: Errno = Errno(23);
    pub const MFILE: Errno = Errno(24);
    pub const FBIG: Errno = Errno(27);
    pub const NOSPC: Errno = Errno(28);
    pub const RANGE: Errno = Errno(34);
    pub const NAMETOOLONG: Errno = Errno(36);
    pub const NOSYS: Errno = Errno(38);
    pub const NOTEMPTY: Errno = Errno(39);
    pub const LOOP: Errno = Errno(40);
    pub const PROTO: Errno = Errno(71);
    pub const OVERFLOW: Errno = Errno(75);
    pub const OPNOTSUPP: Errno = Errno(95);
    pub const STALE: Errno = Errno(116);
    pub const CONNRESET: Errno = Errno(104);
    pub const TIMEDOUT: Errno = Errno(110);
    pub const CANCELED: Errno = Errno(125);
    pub const NODATA: Errno = Errno(61);
    pub const PIPE: Errno = Errno(32);
    pub const NOTCONN: Errno = Errno(107);
    pub const CONNREFUSED: Errno = Errno(111);
    pub const INPROGRESS: Errno = Errno(115);
    pub const NOBUFS: Errno = Errno(105);

    /// What sending answers where the other end of a socket has been closed.
    pub fn is_closed_end(self) -> bool {
        matches!(self, Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN | Errno::CONNREFUSED)
    }
}

/// What a raw call returned, as a Result.
pub(super) fn check(returned: isize) -> Result<usize> {
    if returned < 0 { Err(Errno(-returned as i32)) } else { Ok(returned as usize) }
}

/// Repeats a call that a signal interrupted.
pub fn retry<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => continue,
            other => return other,
        }
    }
}
