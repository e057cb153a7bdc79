//! The content of one file as bytes.

use super::copy::temporary;
use super::session::{Door, Session, Verdict, broken};
use super::{join, refused};
use crate::error::{Error, Result};
use crate::sys::Errno;
use crate::transfer::input::Input;
use crate::transfer::output::Output;
use crate::transfer::{BUFFER, SEGMENT_MAX};
use crate::wire::EntryHead;
use crate::wire::files::{ask, entry, segment};

const READ: &str = "read the file";
const WRITE: &str = "write the file";

/// At most `most` bytes; a file that has more is refused.
pub fn read(door: Door<'_>, path: &[u8], most: u64) -> Result<Vec<u8>> {
    let session = Session::open(door, ask::READ, &[path])?;
    let mut buffer = vec![0; BUFFER];
    let mut input = Input::new(session, &mut buffer);
    let cut = |errno| broken(READ, path, errno);
    let head = input.entry().map_err(cut)?.head;
    match head.kind {
        entry::FILE => {}
        entry::VERDICT => return Err(refused(READ, path, Errno(head.mode as i32))),
        _ => return Err(cut(Errno::PROTO)),
    }
    let mut content = Vec::new();
    let grow = |content: &mut Vec<u8>, count: u64| {
        let wanted = content.len() as u64 + count;
        if wanted > most { Err(too_long(path, wanted.max(head.size), most)) } else { Ok(()) }
    };
    grow(&mut content, head.size)?;
    content.reserve_exact(head.size as usize);
    loop {
        match input.u32().map_err(cut)? {
            segment::END => return Ok(content),
            segment::BROKEN => return Err(refused(READ, path, Errno(input.u32().map_err(cut)? as i32))),
            segment::HOLE => {
                let count = input.u64().map_err(cut)?;
                grow(&mut content, count)?;
                content.resize(content.len() + count as usize, 0);
            }
            count => {
                grow(&mut content, u64::from(count))?;
                let mut left = count as usize;
                while left > 0 {
                    let data = input.some(left).map_err(cut)?;
                    content.extend_from_slice(data);
                    left -= data.len();
                }
            }
        }
    }
}

fn too_long(path: &[u8], size: u64, most: u64) -> Error {
    let path = String::from_utf8_lossy(path);
    Error::Value(format!("max_size: {path} has {size} bytes, and {most} are allowed"))
}

/// The whole file in one step: what reads it meanwhile sees the old content or the new.
pub fn write(door: Door<'_>, path: &[u8], data: &[u8], mode: u32) -> Result<()> {
    let temporary = temporary()?;
    let session = Session::open(door, ask::UNPACK, &[path, temporary.to_bytes()])?;
    let mut buffer = vec![0; BUFFER];
    let mut out = Output::new(session, &mut buffer);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let (seconds, nanos) = (now.as_secs(), now.subsec_nanos());
    let head = EntryHead { kind: entry::FILE, mode, seconds, nanos, size: data.len() as u64, ..EntryHead::default() };
    let sent = (|| {
        out.entry(head, c"", b"")?;
        for part in data.chunks(SEGMENT_MAX) {
            out.put(&(part.len() as u32).to_le_bytes())?;
            out.put(part)?;
        }
        out.put(&segment::END.to_le_bytes())?;
        out.mark(entry::END)?;
        out.flush()
    })();
    if sent == Err(Errno::CANCELED) {
        return Err(broken(WRITE, path, Errno::CANCELED));
    }
    match out.stream.verdict().map_err(|errno| broken(WRITE, path, errno))? {
        Verdict { errno: Errno(0), .. } => Ok(()),
        Verdict { errno, path: below, .. } => Err(refused(WRITE, &join(path, &below), errno)),
    }
}
