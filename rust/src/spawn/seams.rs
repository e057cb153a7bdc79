//! Test-only switches: PYCONTAINER_SEAM names steps that are left out, to show that a test of them can fail, or one that an attacker
//! would do at that moment. Without the feature `test-seams` nothing here reads the environment.

use super::spec::{Space, Spaces, UserSpace};
use crate::security::maps::Line;
use crate::wire::flag;

const STEPS: [(&str, u32); 11] = [
    ("seccomp", flag::SKIP_SECCOMP),
    ("no_new_privileges", flag::SKIP_NO_NEW_PRIVS),
    ("landlock", flag::SKIP_LANDLOCK),
    ("capabilities", flag::SKIP_CAPABILITIES),
    ("masked_paths", flag::SKIP_MASKS),
    ("readonly_paths", flag::SKIP_READ_ONLY),
    ("pivot_root", flag::SKIP_PIVOT),
    ("detach_old_root", flag::SKIP_DETACH),
    ("cgroup", flag::SKIP_JOIN),
    ("idmapped_mounts", flag::SKIP_IDMAP),
    ("swap_covered", flag::SWAP_COVERED),
];

/// Built with the feature.
pub const ENABLED: bool = cfg!(feature = "test-seams");

pub fn skips(step: &str) -> bool {
    ENABLED && std::env::var("PYCONTAINER_SEAM").is_ok_and(|said| said.split(',').any(|name| name == step))
}

/// Limits of control groups ("file:memory") whose files are not written.
pub fn unwritten() -> Vec<String> {
    let said = if ENABLED { std::env::var("PYCONTAINER_SEAM").unwrap_or_default() } else { String::new() };
    said.split(',').filter_map(|name| name.strip_prefix("file:")).map(str::to_owned).collect()
}

/// The flags that the keeper and PID 1 obey.
pub fn flags() -> u32 {
    STEPS.iter().filter(|(step, _)| skips(step)).fold(0, |flags, (_, flag)| flags | flag)
}

/// A namespace that was asked for and is not made: the rest of the road takes the host's, as it does where that is asked for.
pub fn spaces(mut said: Spaces) -> Spaces {
    let kinds = [
        ("namespace:cgroup", &mut said.cgroup),
        ("namespace:ipc", &mut said.ipc),
        ("namespace:net", &mut said.net),
        ("namespace:pid", &mut said.pid),
        ("namespace:uts", &mut said.uts),
    ];
    kinds.into_iter().filter(|(step, _)| skips(step)).for_each(|(_, space)| *space = Space::Host);
    said
}

/// A user namespace that is not made, or whose root is the host's.
pub fn user_space(said: UserSpace) -> UserSpace {
    match said {
        UserSpace::Auto if skips("namespace:user") => UserSpace::Host,
        UserSpace::Auto if skips("user_namespace") => UserSpace::Map(vec![Line::new(0, 0, 65_536)]),
        said => said,
    }
}
