//! Names to numbers through the container's own /etc/passwd and /etc/group: read as data, bounded, never through a library.

use crate::maps::Maps;
use crate::sys::constants::*;
use crate::sys::fs::{self, Fd};
use crate::sys::{Errno, Result};
use crate::wire::Reader;
use core::ffi::CStr;

/// More than any honest file has; a giant one is an error, not a long wait (CVE-2026-47262).
const FILE_MAX: usize = 16 << 20;
const LINE_MAX: usize = 4096;
/// The primary group among them. A ticket of a Windows domain, where memberships are many, holds 1015.
pub const GROUPS_MAX: usize = 1024;
pub const HOME_MAX: usize = 512;

/// Who the command runs as.
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: [u32; GROUPS_MAX],
    pub group_count: usize,
    home: [u8; HOME_MAX],
}

impl Identity {
    pub fn home(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.home).unwrap_or(c"/")
    }

    fn set_home(&mut self, home: &[u8]) {
        let length = home.len().min(HOME_MAX - 1);
        self.home[..length].copy_from_slice(&home[..length]);
        self.home[length] = 0;
    }

    fn add_group(&mut self, gid: u32) -> Result<()> {
        if self.groups[..self.group_count].contains(&gid) {
            return Ok(());
        }
        *self.groups.get_mut(self.group_count).ok_or(Errno::TOOBIG)? = gid;
        self.group_count += 1;
        Ok(())
    }
}

/// A user or group as the plan says it.
#[derive(Clone, Copy)]
pub enum Who<'a> {
    Unsaid,
    Number(u32),
    Name(&'a [u8]),
}

pub fn read_who<'a>(from: &mut Reader<'a>) -> Option<Who<'a>> {
    let (kind, number, name) = (from.u8()?, from.u32()?, from.bytes()?);
    Some(match kind {
        0 => Who::Unsaid,
        1 => Who::Number(number),
        _ => Who::Name(name),
    })
}

/// Which lookup failed, for the error's text.
pub enum Unknown {
    User(Errno),
    Group(Errno),
    Memberships(Errno),
}

/// docker's rules: the passwd entry gives group and home; a number needs no entry; group files add the user's memberships, unless a
/// group was said. The primary group is always among the supplementary ones, whatever else there is room for (CVE-2022-36109).
pub fn resolve(root: i32, user: Who<'_>, group: Who<'_>) -> core::result::Result<Identity, Unknown> {
    let mut who = Identity { uid: 0, gid: 0, groups: [0; GROUPS_MAX], group_count: 0, home: [0; HOME_MAX] };
    let mut name = [0u8; 256];
    let mut name_length = 0;
    let found = scan(root, c"etc/passwd", |fields| {
        let (uid, gid) = number(fields.get(2)).zip(number(fields.get(3)))?;
        let matches = match user {
            Who::Unsaid => uid == 0,
            Who::Number(wanted) => uid == wanted,
            Who::Name(wanted) => fields.get(0) == wanted,
        };
        matches.then(|| {
            (who.uid, who.gid) = (uid, gid);
            who.set_home(fields.get(5));
            name_length = fields.get(0).len().min(name.len());
            name[..name_length].copy_from_slice(&fields.get(0)[..name_length]);
        })
    });
    match (user, found) {
        (_, Ok(true)) => {}
        (Who::Name(_), found) => return Err(Unknown::User(found.err().unwrap_or(Errno::NOENT))),
        (Who::Number(uid), _) => who.uid = uid,
        (Who::Unsaid, _) => {}
    }
    if who.home[0] == 0 {
        who.set_home(if who.uid == 0 { b"/root" } else { b"/" });
    }
    let said = resolve_group(root, group).map_err(Unknown::Group)?;
    who.gid = said.unwrap_or(who.gid);
    let primary = who.gid;
    who.add_group(primary).map_err(Unknown::Group)?;
    if said.is_none() && name_length > 0 {
        add_memberships(root, &name[..name_length], &mut who).map_err(Unknown::Memberships)?;
    }
    Ok(who)
}

/// A file that cannot be read names no members; one that names too many is an error.
fn add_memberships(root: i32, name: &[u8], who: &mut Identity) -> Result<()> {
    let mut added = Ok(());
    let _ = scan(root, c"etc/group", |fields| {
        let gid = number(fields.get(2))?;
        if fields.get(3).split(|byte| *byte == b',').any(|member| member == name) {
            added = who.add_group(gid);
        }
        added.err().map(drop)
    });
    added
}

/// One of the caller's own; EOVERFLOW, as the kernel says it elsewhere, where the container's map has no line for it.
pub fn add_group(root: i32, group: Who<'_>, maps: Maps<'_>, who: &mut Identity) -> Result<()> {
    match resolve_group(root, group)? {
        Some(gid) if maps.has_gid(gid) => who.add_group(gid),
        Some(_) => Err(Errno::OVERFLOW),
        None => Ok(()),
    }
}

fn resolve_group(root: i32, group: Who<'_>) -> Result<Option<u32>> {
    let wanted = match group {
        Who::Unsaid => return Ok(None),
        Who::Number(gid) => return Ok(Some(gid)),
        Who::Name(name) => name,
    };
    let mut gid = None;
    scan(root, c"etc/group", |fields| {
        gid = (fields.get(0) == wanted).then(|| number(fields.get(2))).flatten();
        gid.map(drop)
    })?;
    gid.map(Some).ok_or(Errno::NOENT)
}

/// The fields of one line between colons.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn get(&self, index: usize) -> &'a [u8] {
        self.0.split(|byte| *byte == b':').nth(index).unwrap_or(b"")
    }
}

fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 10 {
        return None;
    }
    let mut value = 0u64;
    for digit in text {
        value = value * 10 + digit.is_ascii_digit().then(|| (digit - b'0') as u64)?;
    }
    (value < u32::MAX as u64).then_some(value as u32)
}

/// Calls `line` with each line until it answers; Ok(true) where it did. Only a regular file is read (CVE-2024-9676).
fn scan(root: i32, path: &CStr, mut line: impl FnMut(Fields<'_>) -> Option<()>) -> Result<bool> {
    let file = open_regular(root, path)?;
    let mut buffer = [0u8; 2 * LINE_MAX];
    let (mut filled, mut total) = (0, 0);
    loop {
        let read = fs::read_full(file.raw(), &mut buffer[filled..])?;
        total += read;
        filled += read;
        let mut start = 0;
        while let Some(length) = buffer[start..filled].iter().position(|byte| *byte == b'\n') {
            if line(Fields(&buffer[start..start + length])).is_some() {
                return Ok(true);
            }
            start += length + 1;
        }
        if read == 0 {
            return Ok(filled > start && line(Fields(&buffer[start..filled])).is_some());
        }
        if filled - start > LINE_MAX || total > FILE_MAX {
            return Err(Errno::FBIG);
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
}

fn open_regular(root: i32, path: &CStr) -> Result<Fd> {
    let flags = O_RDONLY | O_NONBLOCK | O_NOCTTY;
    let file = fs::openat2(root, path, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)?;
    if fs::fstat(file.raw())?.kind() == S_IFREG { Ok(file) } else { Err(Errno::INVAL) }
}
