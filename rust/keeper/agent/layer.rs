//! The writable layer, or the whole root, as a stream that a layer of an image is made of. The walk is transfer's.

use super::{LOWER, ROOT, Socket, UPPER, told};
use crate::sys::{Errno, Result, fs, memory};
use crate::transfer::copied::Copied;
use crate::transfer::output::Output;
use crate::transfer::tree::{Marks, ROOM, Tree, What};
use crate::transfer::{BUFFER, refuse_kernels};

fn tree(what: What) -> Result<Tree<'static, Socket>> {
    let out = Output::new(Socket(super::SOCKET), memory::map_bytes(BUFFER)?);
    Ok(Tree::new(out, memory::map_bytes(ROOM)?, what))
}

pub fn layer(marks: Marks) -> Result<()> {
    fs::fstat(LOWER).map_err(|_| Errno::OPNOTSUPP)?;
    let what = Copied::of(UPPER).map_or(What::Layer(marks), What::Copy);
    told(tree(what)?.walk(UPPER, Some(LOWER)))
}

pub fn whole() -> Result<()> {
    refuse_kernels(ROOT)?;
    let there = |fd| if fs::fstat(fd).is_ok() { fd } else { -1 };
    told(tree(What::Whole([UPPER, LOWER].map(there)))?.walk(ROOT, None))
}
