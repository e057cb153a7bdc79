//! A specification and what was found on the host become one message: numbers, lists and descriptors in the wire format. Pure.

use super::seams;
use super::spec::{Space, Spec, Who};
use crate::mount::layout::Layout;
use crate::security::capabilities;
use crate::security::maps::{self, Maps};
use crate::security::seccomp::{self, Arch};
use crate::spawn::spec::Filter;
use crate::sys::constants::*;
use crate::wire::{Head, Write, flag, role};

pub const NEVER: u64 = u64::MAX;
pub const DEFAULT_PIDS: u64 = 2048;
const RLIMIT_CPU: u32 = 0;
const RLIMIT_CORE: u32 = 4;
const RLIMIT_NOFILE: u32 = 7;

/// The descriptors of a plan, with what each is for and its argument.
#[derive(Debug, Default)]
pub struct Descriptors {
    pub fds: Vec<i32>,
    roles: Vec<u8>,
    arguments: Vec<i32>,
}

impl Descriptors {
    pub fn add(&mut self, role: u8, fd: i32, argument: i32) {
        self.fds.push(fd);
        self.roles.push(role);
        self.arguments.push(argument);
    }

    /// (role, descriptor) of each.
    pub fn roles(&self) -> impl Iterator<Item = (u8, i32)> {
        self.roles.iter().copied().zip(self.fds.iter().copied())
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(self.fds.len() as u8);
        for (role, argument) in self.roles.iter().zip(&self.arguments) {
            out.put_u8(*role);
            out.put_i32(*argument);
        }
    }
}

/// The whole message after its kind.
pub fn encode(
    head: &Head,
    descriptors: &Descriptors,
    name: &str,
    maps: &Maps,
    layout: &Layout,
    command: &[u8],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096 + command.len() + layout.outside.len() + layout.inside.len());
    head.write(&mut out);
    descriptors.write(&mut out);
    out.put_bytes(name.as_bytes());
    for lines in [&maps.uid, &maps.gid, &maps::identity(&maps.uid), &maps::identity(&maps.gid)] {
        out.put_bytes(&maps::text(lines));
    }
    out.put_bytes(&layout.outside);
    out.put_bytes(&layout.inside);
    out.put_bytes(command);
    out
}

/// The namespaces of clone3. The cgroup one is unshared later, after the last group was joined (K12).
pub fn clone_flags(spec: &Spec, user_namespace: bool, has_time: bool) -> u64 {
    let spaces = &spec.spaces;
    let new = |space, bit| if space == Space::New { bit } else { 0 };
    let time = if has_time { new(spaces.time, CLONE_NEWTIME) } else { 0 };
    let user = if user_namespace { CLONE_NEWUSER } else { 0 };
    user | new(spaces.mnt, CLONE_NEWNS)
        | time
        | new(spaces.uts, CLONE_NEWUTS)
        | new(spaces.ipc, CLONE_NEWIPC)
        | new(spaces.pid, CLONE_NEWPID)
        | new(spaces.net, CLONE_NEWNET)
}

pub fn flags(spec: &Spec, one_id: bool) -> u32 {
    let on = |condition: bool, flag: u32| if condition { flag } else { 0 };
    let admin = capabilities::has_admin(spec.capabilities);
    let landlock = spec.landlock != Some(false) && !admin;
    let timed = spec.timeout.is_some() || spec.limits.wall_time.is_some() || spec.limits.cpu_time.is_some();
    on(spec.pid1, flag::PID1)
        | on(spec.tty, flag::TTY)
        | on(spec.handle, flag::HANDLE)
        | on(spec.hold, flag::HOLD)
        | on(spec.news >= 0, flag::TELL_RUNS)
        | on(timed || spec.handle, flag::REPORT_START)
        | on(spec.limits.oom_score_adj.is_some() || !spec.limits.rlimits.is_empty(), flag::TELL_LIMITS)
        | on(spec.no_new_privileges, flag::NO_NEW_PRIVS)
        | on(landlock, flag::LANDLOCK)
        | on(landlock && spec.landlock == Some(true) && !spec.may_degrade("landlock"), flag::LANDLOCK_REQUIRED)
        | on(!one_id, flag::SET_GROUPS)
        | on(spec.set_home, flag::SET_HOME)
        | on(admin && spec.user_space != super::spec::UserSpace::Host, flag::NESTED)
        | seams::flags()
}

/// The command's section: who, where, with which limits and rights, what.
pub fn command(spec: &Spec, hard_limit: impl Fn(u32) -> u64, one_id_pids: Option<u64>) -> Vec<u8> {
    let mut out = Vec::with_capacity(8192);
    put_who(&mut out, &spec.user);
    put_who(&mut out, &spec.group);
    out.put_u32(spec.groups.len() as u32);
    spec.groups.iter().for_each(|group| put_who(&mut out, group));
    out.put_u32(spec.umask);
    out.put_bytes(&spec.cwd);
    let rlimits = rlimits(spec, hard_limit, one_id_pids);
    out.put_u32(rlimits.len() as u32);
    for (resource, soft, hard) in rlimits {
        out.put_u32(resource);
        out.put_u64(soft);
        out.put_u64(hard);
    }
    out.put_u64(spec.capabilities);
    out.put_bytes(&guard(spec));
    out.put_bytes(&filter(spec));
    put_texts(&mut out, &spec.argv);
    put_texts(&mut out, &spec.env);
    put_texts(&mut out, &search(spec));
    out
}

fn put_who(out: &mut Vec<u8>, who: &Who) {
    let (kind, number, name) = match who {
        Who::Unsaid => (0, 0, ""),
        Who::Number(number) => (1, *number, ""),
        Who::Name(name) => (2, 0, name.as_str()),
    };
    out.put_u8(kind);
    out.put_u32(number);
    out.put_bytes(name.as_bytes());
}

fn put_texts(out: &mut Vec<u8>, texts: &[Vec<u8>]) {
    out.put_u32(texts.len() as u32);
    texts.iter().for_each(|text| out.put_bytes(text));
}

/// Defaults are cut to the host's hard limits, since a container never has CAP_SYS_RESOURCE; what was written is not.
fn rlimits(spec: &Spec, hard_limit: impl Fn(u32) -> u64, one_id_pids: Option<u64>) -> Vec<(u32, u64, u64)> {
    // What is above the hard limit was refused before, or may be degraded.
    let cut = |&(resource, soft, hard): &(u32, u64, u64)| {
        let most = hard_limit(resource);
        (resource, soft.min(most), hard.min(most))
    };
    let mut all: Vec<_> = spec.limits.rlimits.iter().filter(|_| !seams::skips("rlimits")).map(cut).collect();
    let said = |wanted: u32, all: &[(u32, u64, u64)]| all.iter().any(|(resource, ..)| *resource == wanted);
    if !said(RLIMIT_NOFILE, &all) {
        let hard = hard_limit(RLIMIT_NOFILE).min(524_288);
        all.push((RLIMIT_NOFILE, hard.min(1024), hard));
    }
    if !said(RLIMIT_CORE, &all) {
        all.push((RLIMIT_CORE, 0, 0));
    }
    if let Some(seconds) = spec.limits.cpu_time.filter(|_| spec.may_degrade("cpu_time")) {
        // Process by process, and in whole seconds; at the hard limit a handler of SIGXCPU does not help.
        let most = hard_limit(RLIMIT_CPU);
        let soft = whole_seconds(seconds).min(most);
        bound(&mut all, (RLIMIT_CPU, soft, soft.saturating_add(1).min(most)));
    }
    if let Some(pids) = one_id_pids {
        bound(&mut all, (RLIMIT_NPROC, pids, pids));
    }
    all
}

/// Of two words about one resource the stronger holds.
fn bound(all: &mut Vec<(u32, u64, u64)>, (resource, soft, hard): (u32, u64, u64)) {
    match all.iter_mut().find(|(known, ..)| *known == resource) {
        Some((_, said, most)) => (*said, *most) = (soft.min(*said), hard.min(*most)),
        None => all.push((resource, soft, hard)),
    }
}

fn whole_seconds(seconds: f64) -> u64 {
    seconds.ceil() as u64
}

/// RLIMIT_CPU holds `cpu_time`, badly; where `rlimits` says less, that is what a command meets first.
pub fn cpu_time_by_rlimit(spec: &Spec) -> bool {
    let said = spec.limits.rlimits.iter().find(|(resource, ..)| *resource == RLIMIT_CPU).map(|(_, soft, _)| *soft);
    let weaker = |seconds: f64| said.is_none_or(|said| whole_seconds(seconds) <= said);
    spec.may_degrade("cpu_time") && spec.limits.cpu_time.is_some_and(weaker)
}

/// A writable bind makes set-id bits a danger to the host: the filter then refuses them (K32).
fn filter(spec: &Spec) -> Vec<u8> {
    match &spec.filter {
        Filter::Unconfined => Vec::new(),
        Filter::Custom(program) => program.clone(),
        Filter::Default => default_filter(spec.capabilities, has_writable_bind(spec)),
    }
}

/// The compiled default, kept for the last few combinations: compiling costs more than a run can spare.
fn default_filter(capabilities: u64, deny_setid_bits: bool) -> Vec<u8> {
    use std::sync::Mutex;
    type Kept = Mutex<Vec<(u64, bool, Vec<u8>)>>;
    static KEPT: crate::sys::host::ForkCell<Kept> = crate::sys::host::ForkCell::new(Mutex::default);
    let mut kept = KEPT.get().lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some((_, _, program)) = kept.iter().find(|(caps, deny, _)| (*caps, *deny) == (capabilities, deny_setid_bits))
    {
        return program.clone();
    }
    let program = seccomp::to_bytes(&seccomp::default_program(Arch::native(), capabilities, deny_setid_bits));
    kept.truncate(15);
    kept.insert(0, (capabilities, deny_setid_bits, program.clone()));
    program
}

/// A second filter, where the first is not ours or cannot hold it: a caller's own filter does not open the host.
fn guard(spec: &Spec) -> Vec<u8> {
    use super::spec::MountKind::Bind;
    let of_root = |mount: &super::spec::Mount| matches!(mount.kind, Bind { read_only: false, owner: Some(0), .. });
    let of_root = spec.mounts.iter().any(of_root);
    if !of_root && (spec.filter == Filter::Default || !has_writable_bind(spec)) {
        return Vec::new();
    }
    seccomp::to_bytes(&seccomp::guard_program(Arch::native(), of_root))
}

pub fn has_writable_bind(spec: &Spec) -> bool {
    spec.mounts.iter().any(|mount| matches!(mount.kind, super::spec::MountKind::Bind { read_only: false, .. }))
}

/// The paths to try: one for a command with a slash, one per directory of PATH otherwise.
fn search(spec: &Spec) -> Vec<Vec<u8>> {
    let command = &spec.argv[0];
    if command.contains(&b'/') {
        return vec![command.clone()];
    }
    let join = |directory: &Vec<u8>| [directory.as_slice(), b"/", command].concat();
    spec.path.iter().filter(|directory| directory.starts_with(b"/")).map(join).collect()
}

/// Adds the descriptors that every plan has; streams of the container's own are marked so that it can open them again.
pub fn stream_role(index: usize) -> (u8, u32) {
    [(role::STDIN, flag::OWN_STDIN), (role::STDOUT, flag::OWN_STDOUT), (role::STDERR, flag::OWN_STDERR)][index]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stronger_of_two_rlimits_holds() {
        let mut all = vec![(RLIMIT_CPU, 1000, u64::MAX), (RLIMIT_NPROC, 3, 4)];
        bound(&mut all, (RLIMIT_CPU, 1, 2));
        bound(&mut all, (RLIMIT_NPROC, 64, 64));
        bound(&mut all, (RLIMIT_CORE, 0, 0));
        assert_eq!(all, [(RLIMIT_CPU, 1, 2), (RLIMIT_NPROC, 3, 4), (RLIMIT_CORE, 0, 0)]);
    }
}
