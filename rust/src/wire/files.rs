//! The words of what travels when files go into or out of a container. Numbers only; rust/src/transfer reads and writes them.

/// What an agent is asked to do among the files of a container. Its socket carries a path first, then entries.
pub mod ask {
    /// A file, followed as open(2) would, as one FILE.
    pub const READ: u8 = 1;
    /// A file, link or tree, to the host.
    pub const PACK: u8 = 2;
    /// The same from the host; behind the path a name that nobody has, and the answer is a VERDICT.
    pub const UNPACK: u8 = 3;
    /// What the writable layer changed: CHANGE, and LEAVE after what is in a directory.
    pub const DIFF: u8 = 4;
    /// The writable layer itself, sorted by name, with the keeper's ids.
    pub const LAYER: u8 = 5;
    /// The whole root file system likewise, with the container's ids, without what is mounted in it.
    pub const WHOLE: u8 = 6;
    /// Test-only, beside one of them: when a path is resolved, /seam/one and /seam/two change their names.
    pub const SWAP_RESOLVED: u8 = 0x80;
}

/// Kinds of what a stream of files consists of; see rust/src/transfer.
pub mod entry {
    /// With its content in segments.
    pub const FILE: u8 = 1;
    /// What is in it follows, up to LEAVE.
    pub const DIRECTORY: u8 = 2;
    pub const LEAVE: u8 = 3;
    /// `extra` is where it leads.
    pub const LINK: u8 = 4;
    /// Not copied: `size` is the errno.
    pub const LEFT_OUT: u8 = 5;
    pub const END: u8 = 6;
    /// The other side's last word; see `Verdict`.
    pub const VERDICT: u8 = 7;
    /// `mode` is a word of `change`, `size` bits of `changed`.
    pub const CHANGE: u8 = 8;
    // Of LAYER and WHOLE alone; there the empty name is the root's, and CHANGE comes before a directory or an empty file, without a name.
    /// A device or fifo: `mode` says which, `size` is major << 32 | minor.
    pub const NODE: u8 = 9;
    /// A name that was removed.
    pub const WHITEOUT: u8 = 10;
    /// The directory that was just entered hides what is below.
    pub const OPAQUE: u8 = 11;
    /// The next file has other names: its inode is `size`, its device `seconds`.
    pub const INODE: u8 = 12;
    /// The next file has holes, and data of `seconds` bytes at `size`; one for each such region, in their order.
    pub const REGION: u8 = 13;
}

/// Lengths of segments that are none.
pub mod segment {
    pub const END: u32 = 0;
    /// Eight bytes of length follow.
    pub const HOLE: u32 = u32::MAX;
    /// The rest could not be read: an errno of four bytes follows, and the file is not to be kept.
    pub const BROKEN: u32 = u32::MAX - 1;
}

/// How a name differs from the layers below.
pub mod change {
    pub const ADDED: u32 = 1;
    pub const CHANGED: u32 = 2;
    pub const DELETED: u32 = 3;
    /// A directory that is there because something in it may have changed.
    pub const ENTERED: u32 = 4;
}

/// What is known of a change besides.
pub mod changed {
    pub const DIRECTORY: u64 = 1;
    /// Of a directory that was there: its mode or its owner; the time of its content.
    pub const RIGHTS: u64 = 2;
    pub const TIME: u64 = 4;
    /// Nothing is in it.
    pub const EMPTY: u64 = 8;
    /// It stands there because all of a copied root does: what is in it may tell of it.
    pub const COPIED: u64 = 16;
}

/// Why an agent does nothing, besides what the kernel says: errnos that mean nothing else there.
pub mod refusal {
    /// ENXIO: a device, fifo or socket.
    pub const SPECIAL: i32 = 6;
    /// EOPNOTSUPP: what the kernel makes up (/proc, /sys, ...).
    pub const KERNELS: i32 = 95;
    /// EXFULL: directories in directories, more than are kept open.
    pub const DEEP: i32 = 54;
    /// EREMOTE: what a name stands for lies in another layer (redirect_dir, metacopy).
    pub const ELSEWHERE: i32 = 66;
    /// ESRCH: the keeper keeps no files of such a container.
    pub const UNKNOWN: i32 = 3;
}
