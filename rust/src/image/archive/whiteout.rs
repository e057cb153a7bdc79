//! Whiteouts: what an entry of a layer says about the layers below it (OCI image specification, layer.md). Pure.
//!
//! | name | here | docker (overlay2) | umoci |
//! |---|---|---|---|
//! | `.wh.name` | hides `name` of lower layers, wherever in the layer it comes | in order: it removes what came before | as here |
//! | `.wh..wh..opq` | hides all that lower layers have in its directory | as here | as here |
//! | other `.wh..wh.*`, and all beneath | AUFS' own: ignored | at the root ignored | a whiteout |
//! | `.wh.`, `.wh..`, `.wh...` | refused: they would be the directory itself, or the one above | "" and "." are the directory | the same |
//! | `.wh.name/below` | refused | a directory of that name | a directory of that name |
//!
//! A whiteout is an empty file, or a hard link, as AUFS made them; anything else of that name is refused.

use super::stream::{Entry, Kind};
use crate::error::{Error, Result};

const PREFIX: &[u8] = b".wh.";
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// No whiteout: an entry of the layer.
    Plain,
    /// Of lower layers, this name in its directory is gone.
    Hides(&'a [u8]),
    /// Of lower layers, everything in its directory is gone.
    Opaque,
    Ignored,
}

/// `parts`: the components of the entry's name.
pub fn meaning<'a>(parts: &[&'a [u8]]) -> Result<Meaning<'a>> {
    let Some((last, above)) = parts.split_last() else { return Ok(Meaning::Plain) };
    if above.iter().any(|part| part.starts_with(META)) {
        return Ok(Meaning::Ignored);
    }
    if above.iter().any(|part| part.starts_with(PREFIX)) {
        return Err(Error::Layer("it is beneath a whiteout".into()));
    }
    let Some(hidden) = last.strip_prefix(PREFIX) else { return Ok(Meaning::Plain) };
    match hidden {
        _ if *last == OPAQUE => Ok(Meaning::Opaque),
        _ if last.starts_with(META) => Ok(Meaning::Ignored),
        b"" | b"." | b".." => Err(Error::Layer("a whiteout of a directory by its own name".into())),
        _ => Ok(Meaning::Hides(hidden)),
    }
}

/// Refuses what is no whiteout but has the name of one.
pub fn check(entry: &Entry) -> Result<()> {
    match entry.kind {
        Kind::File if entry.size == 0 && entry.regions.is_none() => Ok(()),
        Kind::Hardlink => Ok(()),
        Kind::File => Err(Error::Layer("a whiteout with data".into())),
        _ => Err(Error::Layer("a whiteout that is no file".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Result<Meaning<'_>> {
        meaning(&super::super::tree::components(name.as_bytes())?)
    }

    #[test]
    fn names_say_what_they_hide() {
        for (name, expected) in [
            ("a", Meaning::Plain),
            ("./", Meaning::Plain),
            (".whiteout", Meaning::Plain),
            (".wh", Meaning::Plain),
            ("a.wh.b", Meaning::Plain),
            ("d/.wh.a", Meaning::Hides(b"a")),
            (".wh..a", Meaning::Hides(b".a")),
            (".wh....", Meaning::Hides(b"...")),
            (".wh..wh", Meaning::Hides(b".wh")),
            ("d/.wh..wh..opq", Meaning::Opaque),
            (".wh..wh..opqx", Meaning::Ignored),
            (".wh..wh.plnk", Meaning::Ignored),
            (".wh..wh.", Meaning::Ignored),
            (".wh..wh.plnk/1.2", Meaning::Ignored),
            (".wh..wh.aufs", Meaning::Ignored),
        ] {
            assert_eq!(of(name), Ok(expected), "{name}");
        }
        for bad in [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh.../", ".wh.a/b", ".wh.a/.wh.b", ".wh./a"] {
            assert!(matches!(of(bad), Err(Error::Layer(_))), "{bad}");
        }
    }
}
