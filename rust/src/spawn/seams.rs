//! Test-only switches: PYCONTAINER_SEAM names steps that are left out, to show that a test of them can fail. Without the feature
//! `test-seams` nothing here reads the environment.

use crate::wire::flag;

const STEPS: [(&str, u32); 7] = [
    ("seccomp", flag::SKIP_SECCOMP),
    ("no_new_privileges", flag::SKIP_NO_NEW_PRIVS),
    ("landlock", flag::SKIP_LANDLOCK),
    ("capabilities", flag::SKIP_CAPABILITIES),
    ("masked_paths", flag::SKIP_MASKS),
    ("namespace:cgroup", flag::SKIP_CGROUP_NAMESPACE),
    ("cgroup", flag::SKIP_JOIN),
];

/// Built with the feature.
pub const ENABLED: bool = cfg!(feature = "test-seams");

pub fn skips(step: &str) -> bool {
    ENABLED && std::env::var("PYCONTAINER_SEAM").is_ok_and(|said| said.split(',').any(|name| name == step))
}

/// The flags that the keeper and PID 1 obey.
pub fn flags() -> u32 {
    STEPS.iter().filter(|(step, _)| skips(step)).fold(0, |flags, (_, flag)| flags | flag)
}
