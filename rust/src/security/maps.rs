//! Which ids of this machine a container's ids are, as lines of uid_map and gid_map. Pure: nothing is looked up or written.

use crate::error::{Error, Result};

/// UID_GID_MAP_MAX_EXTENTS of the kernel, from 4.15.
const LINES_MAX: usize = 340;
/// The kernel takes less than a page in one write, and one write only (user_namespaces(7)).
const TEXT_MAX: usize = 4095;

/// `count` ids from `inside` on are those from `outside` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

impl Line {
    pub const fn new(inside: u32, outside: u32, count: u32) -> Line {
        Line { inside, outside, count }
    }
}

/// The lines of one kind of id; none is the host's own, where every id is itself.
pub type Lines = Vec<Line>;

/// Both kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Maps {
    pub uid: Lines,
    pub gid: Lines,
}

impl Maps {
    pub fn both(lines: Lines) -> Maps {
        Maps { uid: lines.clone(), gid: lines }
    }

    pub fn each(&self, change: impl Fn(&[Line]) -> Lines) -> Maps {
        Maps { uid: change(&self.uid), gid: change(&self.gid) }
    }

    /// (uid, gid) outside of the root inside.
    pub fn root(&self) -> (u32, u32) {
        (outside(&self.uid, 0).unwrap_or(0), outside(&self.gid, 0).unwrap_or(0))
    }
}

/// What stands in the file.
pub fn text(lines: &[Line]) -> Vec<u8> {
    lines
        .iter()
        .map(|line| format!("{} {} {}\n", line.inside, line.outside, line.count))
        .collect::<String>()
        .into_bytes()
}

pub fn outside(lines: &[Line], id: u32) -> Option<u32> {
    let line = lines.iter().find(|line| line.inside <= id && id - line.inside < line.count)?;
    Some(line.outside + (id - line.inside))
}

pub fn inside(lines: &[Line], id: u32) -> Option<u32> {
    let line = lines.iter().find(|line| line.outside <= id && id - line.outside < line.count)?;
    Some(line.inside + (id - line.outside))
}

/// The map of a namespace in which all ids of the one with these lines are what they are. As many lines: none may span two of its
/// parent's.
pub fn identity(lines: &[Line]) -> Lines {
    lines.iter().map(|line| Line { outside: line.inside, ..*line }).collect()
}

/// Ids of this machine as a user namespace with the map `own` names them: the lines that may be written there.
pub fn named_in(wanted: &[Line], own: &[Line]) -> Result<Lines> {
    let mut made = Lines::new();
    for line in wanted {
        let (mut done, end) = (0, line.count);
        while done < end {
            let id = line.outside + done;
            let holder = own.iter().find(|have| have.outside <= id && id - have.outside < have.count);
            let Some(have) = holder else { return Err(not_ours(id)) };
            let offset = id - have.outside;
            let count = (end - done).min(have.count - offset);
            made.push(Line::new(line.inside + done, have.inside + offset, count));
            done += count;
        }
    }
    check_size(&made)?;
    Ok(made)
}

fn not_ours(id: u32) -> Error {
    Error::unsupported(
        "user_namespace",
        format!("id {id} is neither this user's own nor in a range that /etc/subuid and /etc/subgid give this user"),
        "ids of those ranges, or root",
    )
}

fn check_size(lines: &[Line]) -> Result<()> {
    let (count, size) = (lines.len(), text(lines).len());
    if count <= LINES_MAX && size <= TEXT_MAX {
        return Ok(());
    }
    Err(Error::Value(format!(
        "user_namespace: {count} lines of {size} bytes; the kernel takes {LINES_MAX} lines and {TEXT_MAX} bytes"
    )))
}

/// The last group of net.ipv4.ping_group_range, which begins with group 0: the kernel compares the groups as the host has them, so
/// the last one may not lie below the first there. Groups above `most` are left out.
pub fn last_to_ping(gids: &[Line], most: u32) -> u32 {
    let Some(first) = outside(gids, 0) else { return 0 };
    let last = |line: &Line| (line.inside + (line.count - 1)).min(most.max(line.inside));
    let reachable = gids.iter().filter(|line| line.outside >= first && line.inside <= most).map(last);
    reachable.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const USER: [Line; 2] = [Line::new(0, 1001, 1), Line::new(1, 100_000, 65_536)];

    #[test]
    fn a_host_id_is_named_as_the_keeper_of_a_plain_user_names_it() {
        let named = named_in(&[Line::new(0, 100_000, 10), Line::new(10, 1001, 1)], &USER);
        assert_eq!(named, Ok(vec![Line::new(0, 1, 10), Line::new(10, 0, 1)]));
        assert!(matches!(named_in(&[Line::new(0, 1002, 1)], &USER), Err(Error::NotSupported { .. })));
        assert!(named_in(&[Line::new(0, 165_535, 1)], &USER).is_ok());
        assert!(named_in(&[Line::new(0, 165_535, 2)], &USER).is_err());
    }

    #[test]
    fn a_line_that_spans_two_of_the_parent_is_two_lines() {
        let own = [Line::new(0, 99_999, 1), Line::new(1, 100_000, 65_536)];
        let named = named_in(&[Line::new(0, 99_999, 3)], &own);
        assert_eq!(named, Ok(vec![Line::new(0, 0, 1), Line::new(1, 1, 2)]));
    }

    #[test]
    fn more_than_a_page_is_the_callers_mistake() {
        let own = [Line::new(0, 0, u32::MAX)];
        let many: Lines = (0..340).map(|n| Line::new(n, 4_000_000_000 + n, 1)).collect();
        assert!(matches!(named_in(&many, &own), Err(Error::Value(text)) if text.contains("4095")));
        let few: Lines = (0..200).map(|n| Line::new(n, 4_000_000_000 + n, 1)).collect();
        assert!(named_in(&few, &own).is_ok());
    }

    #[test]
    fn groups_to_ping_are_in_order_on_the_host_too() {
        assert_eq!(last_to_ping(&[Line::new(0, 1_879_048_192, 65_536)], 65_535), 65_535);
        assert_eq!(last_to_ping(&[Line::new(0, 1001, 1)], 65_535), 0);
        assert_eq!(last_to_ping(&[Line::new(0, 1001, 1), Line::new(1, 100_000, 9)], 65_535), 9);
        assert_eq!(last_to_ping(&USER, 65_535), 65_535);
        assert_eq!(last_to_ping(&[Line::new(0, 200_000, 1), Line::new(1, 100_000, 9)], 65_535), 0);
    }

    prop_compose! {
        fn lines()(parts in prop::collection::vec((1u32..50, 1u32..50, 0u32..50, 0u32..50), 1..8)) -> Lines {
            let (mut inside, mut outside) = (0, 0);
            parts.into_iter().map(|(count, _, before, above)| {
                let line = Line::new(inside + before, outside + above, count);
                (inside, outside) = (line.inside + count, line.outside + count);
                line
            }).collect()
        }
    }

    proptest! {
        /// Through the keeper's map each id is the one that was asked for, and each line fits into one of the keeper's.
        #[test]
        fn named_ids_are_the_wanted_ones(wanted in lines(), own in lines()) {
            let covered = |id: u32| own.iter().any(|have| have.outside <= id && id < have.outside + have.count);
            match named_in(&wanted, &own) {
                Ok(named) => for id in 0..1000 {
                    let through = outside(&named, id).and_then(|name| outside(&own, name));
                    prop_assert_eq!(through, outside(&wanted, id));
                }
                Err(_) => prop_assert!((0..1000).filter_map(|id| outside(&wanted, id)).any(|id| !covered(id))),
            }
        }
    }
}
