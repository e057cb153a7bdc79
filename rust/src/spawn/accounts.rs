//! A user or a group that the command cannot have, in words. Pure: names and numbers only.

use super::causes::ONE_ID;
use super::spec::{Spec, UserSpace, Who};
use crate::error::Error;
use crate::mount::layout::Facts;
use crate::wire::step;

const ENOENT: i32 = 2;
const E2BIG: i32 = 7;
const EINVAL: i32 = 22;
const EOVERFLOW: i32 = 75;

/// None of a step that is about no account.
pub fn explain(spec: &Spec, facts: &Facts, which: u16, errno: i32) -> Option<Error> {
    let (user, group) = (name_of(&spec.user), name_of(&spec.group));
    let outside = |requirement: &str, who: String| Some(outside(requirement, who, spec, facts));
    match (which, errno) {
        (step::USER, errno) => Some(unknown(&format!("unknown user {user:?}"), "/etc/passwd", errno)),
        (step::GROUP, errno) => Some(unknown(&format!("unknown group {group:?}"), "/etc/group", errno)),
        (step::SETUID, EINVAL) => outside("user", user),
        (step::SETGID, EINVAL) if spec.group == Who::Unsaid => {
            outside("user", format!("the group that the container's /etc/passwd gives {user}"))
        }
        (step::SETGID, EINVAL) => outside("group", group),
        (step::SETGROUPS, EINVAL) => {
            outside("groups", format!("a group of which the container's /etc/group makes {user} a member"))
        }
        (step::SETGROUPS, E2BIG) => Some(too_many(format!("find the groups of user {user:?}"))),
        (step::GROUPS.., errno) => {
            let index = usize::from(which - step::GROUPS);
            let group = spec.groups.get(index).map(name_of).unwrap_or_default();
            match errno {
                EOVERFLOW => outside("groups", format!("groups[{index}], {group},")),
                E2BIG => Some(too_many(format!("add groups[{index}], {group},"))),
                _ => Some(unknown(&format!("groups[{index}]: unknown group {group:?}"), "/etc/group", errno)),
            }
        }
        _ => None,
    }
}

fn name_of(who: &Who) -> String {
    match who {
        Who::Name(name) => name.clone(),
        Who::Number(number) => number.to_string(),
        Who::Unsaid => "0".into(),
    }
}

fn unknown(step: &str, file: &str, errno: i32) -> Error {
    let (path, note) = match errno {
        ENOENT => (file, format!("the container's {file} does not name it; a number needs no entry")),
        _ => ("/etc/passwd or /etc/group", "the container's account files could not be read as such".into()),
    };
    Error::Setup { step: step.into(), path: Some(path.into()), errno, note: Some(note) }
}

/// As many as rust/keeper/users.rs has room for.
fn too_many(step: String) -> Error {
    let note = "a process has at most 1024 groups here, the primary one and the memberships in the container's \
                /etc/group among them; user=\"USER:GROUP\" takes no memberships";
    Error::Setup { step, path: Some("/etc/group".into()), errno: E2BIG, note: Some(note.into()) }
}

/// The kernel knows no such id in the container's user namespace.
fn outside(requirement: &str, who: String, spec: &Spec, facts: &Facts) -> Error {
    let (why, fix) = match (&spec.user_space, facts.rootless) {
        _ if facts.one_id => (ONE_ID.why, ONE_ID.fix),
        (UserSpace::Map(_), _) => {
            ("the map that was given has no line for it", "an IdMap with that id in Security(user_namespace=[...])")
        }
        (_, true) => (
            "this user's ranges of subordinate ids end below it",
            "an id within them, or larger ranges in /etc/subuid and /etc/subgid",
        ),
        (_, false) => (
            "it has the ids 0 to 65535",
            "an id below 65536, or an IdMap with that id in Security(user_namespace=[...])",
        ),
    };
    Error::unsupported(requirement, format!("{who} has no id in the container's user namespace: {why}"), fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_step_of_its_own_is_taken_for_a_group() {
        let all = [step::DECODE, step::RLIMIT, step::CWD, step::EXEC, step::NESTED, step::TOO_MANY];
        assert!(all.iter().all(|which| *which < step::GROUPS));
    }
}
