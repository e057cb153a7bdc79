//! What an archive is made of, and who makes one. Values only.

use crate::error::Result;
use crate::files::Own;

/// As the type bits of a mode (inode(7)) have it; device numbers with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Link,
    /// Another name of a file that came before.
    HardLink,
    Fifo,
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
}

/// One entry of the archive, without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub kind: Kind,
    /// From the root on, without a slash before it; "." is the root.
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    pub size: u64,
    /// Where data is in a file with holes.
    pub regions: Option<Vec<(u64, u64)>>,
    /// Sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Who makes an archive of it.
pub trait Taker {
    fn item(&mut self, item: &Item) -> Result<()>;
    /// Of the file that came last: all of it, or its regions.
    fn data(&mut self, data: &[u8]) -> Result<()>;
}

/// Ids as the agent sees them to those of the container: (inside, outside, count).
pub type Ids = Vec<(u32, u32, u32)>;

/// What is taken.
pub enum Wanted<'a> {
    /// The writable layer, as changes: without what the engine has made there.
    Layer { own: &'a Own, uids: Ids, gids: Ids },
    /// The whole root, as it is; as the lowest layer of an image, or as an archive in which a name says nothing else.
    Whole { as_layer: bool },
}
