//! The default profile: which calls a container may make, given its capabilities. Policy only; no BPF, no kernel call.
//!
//! It follows the semantics of moby's default profile, with a family allow-list for sockets, without foreign
//! architectures, and with ENOSYS for numbers that the table does not know: programs then take their fallback, where
//! EPERM would end them.

use std::collections::BTreeMap;

use super::compile::{Answer, Clause, Test, Width, assemble};
use super::{Action, Arch, Insn, Op, numbers, rules};
use crate::security::capabilities as cap;

const EPERM: u16 = 1;
const EINVAL: u16 = 22;
const ENOSYS: u16 = 38;
const EOPNOTSUPP: u16 = 95;

const ALLOW: u32 = Action::Allow.value();
const DENY: u32 = Action::Errno(EPERM).value();
const ABSENT: u32 = Action::Errno(ENOSYS).value();

/// What needs no capability, by purpose.
#[rustfmt::skip] // words, filled to the line
const ALLOWED: &[&str] = &[
    // Reading and writing.
    "read write pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2 lseek close close_range dup dup2 dup3 \
     fcntl flock pipe pipe2 splice tee vmsplice sendfile copy_file_range readahead fadvise64 fallocate cachestat \
     sync syncfs fsync fdatasync sync_file_range",
    // Names, metadata and attributes.
    "access faccessat faccessat2 open openat openat2 creat mkdir mkdirat mknod mknodat rmdir unlink unlinkat rename \
     renameat renameat2 link linkat symlink symlinkat readlink readlinkat chdir fchdir getcwd getdents getdents64 \
     truncate ftruncate chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat umask utime utimes utimensat \
     futimesat stat lstat fstat newfstatat statx statfs fstatfs statmount listmount name_to_handle_at file_getattr \
     file_setattr setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr \
     removexattr lremovexattr fremovexattr setxattrat getxattrat listxattrat removexattrat",
    // Waiting for events.
    "poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 epoll_ctl_old \
     epoll_wait_old eventfd eventfd2 signalfd signalfd4 inotify_init inotify_init1 inotify_add_watch inotify_rm_watch \
     fanotify_mark io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents",
    // Memory.
    "brk mmap munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock munlockall mseal memfd_create \
     memfd_secret membarrier remap_file_pages pkey_alloc pkey_free pkey_mprotect map_shadow_stack",
    // Processes, threads and signals. ptrace and its kin are safe since 4.8, where seccomp runs after the tracer.
    "fork vfork execve execveat exit exit_group wait4 waitid kill tkill tgkill pause getpid gettid getppid getpgid \
     getpgrp getsid setpgid setsid prctl arch_prctl modify_ldt set_thread_area get_thread_area set_tid_address rseq \
     set_robust_list get_robust_list futex futex_waitv futex_wait futex_wake futex_requeue restart_syscall \
     rt_sigaction rt_sigprocmask rt_sigpending rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn rt_sigsuspend \
     rt_sigtimedwait sigaltstack pidfd_open pidfd_send_signal process_mrelease ptrace process_vm_readv \
     process_vm_writev uretprobe uprobe",
    // Identity, and confining oneself further.
    "getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid setresgid \
     setfsuid setfsgid setgroups capget capset seccomp landlock_create_ruleset landlock_add_rule \
     landlock_restrict_self",
    // Scheduling and limits.
    "sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam \
     sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval \
     getpriority setpriority ioprio_get ioprio_set getrlimit setrlimit prlimit64 getrusage getcpu",
    // Time; setting a clock is refused by the kernel without CAP_SYS_TIME.
    "time times gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep clock_adjtime adjtimex alarm \
     getitimer setitimer timer_create timer_delete timer_settime timer_gettime timer_getoverrun timerfd_create \
     timerfd_settime timerfd_gettime",
    // Sockets that exist, and IPC.
    "bind listen accept accept4 connect shutdown getsockname getpeername getsockopt setsockopt sendto recvfrom sendmsg \
     recvmsg sendmmsg recvmmsg msgget msgsnd msgrcv msgctl semget semop semtimedop semctl shmget shmat shmdt shmctl \
     mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr",
    // The system.
    "uname sysinfo getrandom",
];

/// What one of these capabilities opens. The kernel checks them too; but most of these have no use without, and it is
/// code that need not be reachable.
#[rustfmt::skip] // words, filled to the line
const WITH_CAPABILITY: &[(u64, &str)] = &[
    (cap::bit(cap::SYS_ADMIN),
     "mount umount2 mount_setattr move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick setns unshare \
      clone clone3 sethostname setdomainname quotactl quotactl_fd fanotify_init lookup_dcookie lsm_get_self_attr \
      lsm_set_self_attr lsm_list_modules"),
    (cap::bit(cap::SYS_ADMIN) | cap::bit(cap::BPF), "bpf"),
    (cap::bit(cap::SYS_ADMIN) | cap::bit(cap::PERFMON), "perf_event_open"),
    (cap::bit(cap::SYS_ADMIN) | cap::bit(cap::SYSLOG), "syslog"),
    (cap::bit(cap::DAC_READ_SEARCH), "open_by_handle_at"),
    (cap::bit(cap::SYS_PTRACE), "kcmp pidfd_getfd process_madvise"),
    (cap::bit(cap::SYS_CHROOT), "chroot"),
    (cap::bit(cap::SYS_MODULE), "init_module finit_module delete_module"),
    (cap::bit(cap::SYS_TIME), "settimeofday clock_settime"),
    (cap::bit(cap::SYS_BOOT), "reboot"),
    (cap::bit(cap::SYS_RAWIO), "iopl ioperm"),
    (cap::bit(cap::SYS_TTY_CONFIG), "vhangup"),
    (cap::bit(cap::SYS_NICE), "mbind set_mempolicy get_mempolicy set_mempolicy_home_node"),
    (cap::bit(cap::SYS_PACCT), "acct"),
];

// Not in any list, so refused whatever the capabilities: add_key, request_key and keyctl (keyrings are not namespaced),
// io_uring_* (its operations pass no filter), userfaultfd (widens kernel races), kexec_*, swapon, swapoff, pivot_root,
// move_pages, migrate_pages, and the obsolete: sysfs, ustat, uselib, _sysctl, nfsservctl.

/// AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, AF_NETLINK. Any other family loads or reaches a protocol that a container
/// rarely needs and that has its history of holes (AF_ALG: CVE-2026-31431; AF_VSOCK reaches the hypervisor).
const FAMILIES: [u64; 5] = [0, 1, 2, 10, 16];
const AF_NETLINK: u64 = 16;
const NETLINK_AUDIT: u64 = 9;

/// PER_LINUX, PER_LINUX32, UNAME26, both, and the query: the others switch protections off (ADDR_NO_RANDOMIZE, ...).
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET: no namespace without CAP_SYS_ADMIN.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// TIOCSTI and TIOCLINUX put input into a terminal, for whoever reads it next, outside too.
const TERMINAL_INPUT: [u64; 2] = [0x5412, 0x541c];

const SET_ID_BITS: u64 = 0o6000;
const O_CREAT: u64 = 0o100;
const O_TMPFILE_BIT: u64 = 0o20_000_000; // without O_DIRECTORY, whose value depends on the architecture

/// Calls with a file mode in this argument.
const MODE_ARGUMENT: &[(&str, u8)] =
    &[("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("fchmodat2", 2), ("creat", 1), ("mknod", 1), ("mknodat", 2)];

/// Calls whose mode (second number) counts only if their flags (first number) create a file; else it may be garbage.
const OPEN_FLAGS_MODE: &[(&str, u8, u8)] = &[("open", 1, 2), ("openat", 2, 3)];

/// The default profile for a command with these capabilities (bit n: capability n).
///
/// With `deny_setid_bits`, no file can be given a set-uid or set-gid bit: the files of a writable bind are seen by the
/// host, where such a bit would give away the owner's rights.
pub fn default_program(arch: Arch, capabilities: u64, deny_setid_bits: bool) -> Vec<Insn> {
    let answers = answers(arch, capabilities, deny_setid_bits);
    let ranges = rules::ranges(arch, answers.into_iter(), &Answer::Return(ABSENT));
    assemble(arch, &ranges, Action::KillProcess.value())
}

/// Stands beside any other filter, also none, where the container writes to a directory of the host's: no set-id bit is given to
/// a file. With `deny_file_capabilities` (the host's root owns what is written) no extended attribute either: CAP_SETFCAP inside
/// would give a file capabilities that count for every user of the host. Names of attributes are behind a pointer, so all of
/// them are refused; tar, cp and rsync take "not supported" for an answer.
pub fn guard_program(arch: Arch, deny_file_capabilities: bool) -> Vec<Insn> {
    let absent = |name| (name, Answer::Return(ABSENT));
    // io_uring opens files with a mode that no filter sees.
    let mut all = without_setid_bits();
    all.extend(["io_uring_setup", "io_uring_enter"].map(absent));
    if deny_file_capabilities {
        let refused = Answer::Return(Action::Errno(EOPNOTSUPP).value());
        all.extend(["setxattr", "lsetxattr", "fsetxattr", "setxattrat"].map(|name| (name, refused.clone())));
    }
    let numbered = all.into_iter().filter_map(|(name, answer)| Some((numbers::number(arch, name)?, answer)));
    let answers: BTreeMap<u32, Answer> = numbered.collect();
    let ranges = rules::ranges(arch, answers.into_iter(), &Answer::Return(ALLOW));
    assemble(arch, &ranges, Action::KillProcess.value())
}

/// Every name that a list opens.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let opened = WITH_CAPABILITY.iter().map(|(_, names)| names);
    ALLOWED.iter().chain(opened).flat_map(|names| names.split_whitespace())
}

/// The answer to every number of the table.
fn answers(arch: Arch, capabilities: u64, deny_setid_bits: bool) -> BTreeMap<u32, Answer> {
    let mut answers: BTreeMap<u32, Answer> = numbers::all(arch).map(|number| (number, Answer::Return(DENY))).collect();
    let opened = WITH_CAPABILITY.iter().filter(|(any_of, _)| capabilities & any_of != 0).map(|(_, names)| names);
    let allowed = ALLOWED.iter().chain(opened).flat_map(|names| names.split_whitespace());
    let mut set = |name: &str, answer: Answer| {
        if let Some(number) = numbers::number(arch, name) {
            answers.insert(number, answer);
        }
    };
    allowed.for_each(|name| set(name, Answer::Return(ALLOW)));
    by_argument(capabilities).into_iter().for_each(|(name, answer)| set(name, answer));
    if deny_setid_bits {
        without_setid_bits().into_iter().for_each(|(name, answer)| set(name, answer));
    }
    answers
}

fn by_argument(capabilities: u64) -> Vec<(&'static str, Answer)> {
    let socket = Answer::Check(socket_clauses(capabilities), DENY);
    let mut answers = vec![
        ("socket", socket.clone()),
        ("socketpair", socket),
        ("personality", Answer::Check(one_of(&PERSONALITIES, 0, ALLOW), DENY)),
        ("ioctl", Answer::Check(one_of(&TERMINAL_INPUT, 1, DENY), ALLOW)),
    ];
    if capabilities & cap::bit(cap::SYS_ADMIN) == 0 {
        answers.push(("clone", Answer::Check(vec![clause(vec![no_bit(0, NAMESPACE_FLAGS)], ALLOW)], DENY)));
        // Its flags are behind a pointer; C libraries fall back to clone.
        answers.push(("clone3", Answer::Return(ABSENT)));
    }
    answers
}

fn socket_clauses(capabilities: u64) -> Vec<Clause> {
    let mut clauses = Vec::new();
    if capabilities & cap::bit(cap::AUDIT_WRITE) == 0 {
        // What a kernel without audit says: login, su and useradd go on, where EPERM on sending would end them.
        let tests = vec![low(0, Op::Eq, AF_NETLINK, 0), low(2, Op::Eq, NETLINK_AUDIT, 0)];
        clauses.push(clause(tests, Action::Errno(EINVAL).value()));
    }
    clauses.extend(one_of(&FAMILIES, 0, ALLOW));
    clauses
}

fn without_setid_bits() -> Vec<(&'static str, Answer)> {
    let with_mode = MODE_ARGUMENT.iter().map(|(name, mode)| {
        let harmless = clause(vec![no_bit(*mode, SET_ID_BITS)], ALLOW);
        (*name, Answer::Check(vec![harmless], DENY))
    });
    let with_flags = OPEN_FLAGS_MODE.iter().map(|(name, flags, mode)| {
        let harmless = [no_bit(*mode, SET_ID_BITS), no_bit(*flags, O_CREAT | O_TMPFILE_BIT)];
        (*name, Answer::Check(harmless.map(|test| clause(vec![test], ALLOW)).to_vec(), DENY))
    });
    // The mode of openat2 is behind a pointer; what uses it falls back to openat.
    with_mode.chain(with_flags).chain([("openat2", Answer::Return(ABSENT))]).collect()
}

fn one_of(values: &[u64], index: u8, then: u32) -> Vec<Clause> {
    values.iter().map(|value| clause(vec![low(index, Op::Eq, *value, 0)], then)).collect()
}

fn no_bit(index: u8, bits: u64) -> Test {
    low(index, Op::MaskedEq, bits, 0)
}

fn clause(tests: Vec<Test>, then: u32) -> Clause {
    Clause { tests, then }
}

/// All parameters that are looked at here are int, unsigned int or umode_t, or are cut to 32 bits first (clone).
fn low(index: u8, op: Op, value: u64, value_two: u64) -> Test {
    Test { index, width: Width::Low, op, value, value_two }
}
