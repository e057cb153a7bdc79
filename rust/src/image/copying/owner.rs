//! Who --chown names: numbers are numbers, names are looked up in /etc/passwd and /etc/group of the layers below. Reads these two only.

use super::source::Tree;
use crate::error::{Error, Result};
use crate::image::digest::cut;
use crate::image::union;
use std::io::Read;

/// Of a file of users or groups; a machine with 10,000 of them has less.
const FILE_MAX: u64 = 4 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    user: Id,
    group: Option<Id>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Id {
    Number(u32),
    Name(String),
}

impl Owner {
    /// `USER[:GROUP]`.
    pub fn parse(text: &str) -> Result<Owner> {
        let (user, group) = match text.split_once(':') {
            None => (text, None),
            Some((user, group)) => (user, Some(group)),
        };
        Ok(Owner { user: id(user, text)?, group: group.map(|group| id(group, text)).transpose()? })
    }

    /// A user that is a number has the group of this number; one of a name has its own.
    pub fn ids(&self, below: &Tree) -> Result<(u32, u32)> {
        let (uid, own) = match &self.user {
            Id::Number(uid) => (*uid, *uid),
            Id::Name(name) => user(below, name)?,
        };
        let gid = match &self.group {
            None => own,
            Some(Id::Number(gid)) => *gid,
            Some(Id::Name(name)) => group(below, name)?,
        };
        Ok((uid, gid))
    }
}

/// All digits are a number, whatever users there are (H8). The last number is nobody's: to chown(2) it means "unchanged".
fn id(text: &str, whole: &str) -> Result<Id> {
    let bad = |why: &str| Err(Error::Value(format!("{:?} is no owner: {why}", cut(whole))));
    if text.is_empty() {
        return bad("as in user, user:group or 1000:1000");
    }
    if text == "root" {
        return Ok(Id::Number(0)); // there is one in an image without users too
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Id::Name(text.into()));
    }
    match text.parse() {
        Ok(number) if number < u32::MAX => Ok(Id::Number(number)),
        _ => bad("an id is below 4294967295"),
    }
}

fn user(below: &Tree, name: &str) -> Result<(u32, u32)> {
    let text = file(below, "/etc/passwd", name)?;
    let found = lines(&text, name).find_map(|fields| {
        let number = |at: usize| std::str::from_utf8(fields.get(at)?).ok()?.parse::<u32>().ok();
        Some((number(2)?, number(3)?))
    });
    found.ok_or_else(|| unknown("user", name, "/etc/passwd"))
}

fn group(below: &Tree, name: &str) -> Result<u32> {
    let text = file(below, "/etc/group", name)?;
    let found = lines(&text, name).find_map(|fields| std::str::from_utf8(fields.get(2)?).ok()?.parse::<u32>().ok());
    found.ok_or_else(|| unknown("group", name, "/etc/group"))
}

fn lines<'a>(text: &'a [u8], name: &'a str) -> impl Iterator<Item = Vec<&'a [u8]>> {
    let lines = text.split(|byte| *byte == b'\n').map(|line| line.split(|byte| *byte == b':').collect::<Vec<_>>());
    lines.filter(move |fields| fields[0] == name.as_bytes())
}

fn unknown(what: &str, name: &str, file: &str) -> Error {
    Error::Image(format!("the image's {file} has no {what} {:?}", cut(name)))
}

/// A regular file, links followed inside, and no more of it than users and groups can need.
fn file(below: &Tree, path: &str, name: &str) -> Result<Vec<u8>> {
    let file = union::open_in(&mut below.cursor(), path.as_bytes()).map_err(|error| match error {
        Error::Setup { errno: libc::ENOENT, .. } => {
            Error::Image(format!("the image has no {path}, in which {:?} could be looked up", cut(name)))
        }
        other => other,
    })?;
    let mut text = Vec::new();
    let read = file.take(FILE_MAX + 1).read_to_end(&mut text);
    read.map_err(|error| Error::setup_at("read", path, error.raw_os_error().unwrap_or(libc::EIO)))?;
    if text.len() as u64 > FILE_MAX {
        return Err(Error::Image(format!("the image's {path} has more than {FILE_MAX} bytes")));
    }
    Ok(text)
}
