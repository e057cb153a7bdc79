//! The compiled programs against a plain reading of the profiles; the kernel and libseccomp are asked in tests/native.

use super::simulate::{SeccompData, check, run};
use super::*;
use crate::security::capabilities;

mod guard;
mod rules;

const EPERM: u32 = Action::Errno(1).value();
const ENOSYS: u32 = Action::Errno(38).value();
const ALLOW: u32 = Action::Allow.value();
const KILL: u32 = Action::KillProcess.value();
const BOTH: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

fn ask_number(program: &[Insn], arch: Arch, nr: u32, args: [u64; 6]) -> u32 {
    run(program, &SeccompData { nr, arch: arch.audit(), ip: 0x7fff_1234_5678, args }).0
}

fn ask(program: &[Insn], arch: Arch, name: &str, args: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    ask_number(program, arch, numbers::number(arch, name).expect(name), all)
}

fn default(arch: Arch) -> Vec<Insn> {
    default_program(arch, capabilities::DEFAULT, false)
}

#[test]
fn the_table_is_sorted_and_without_double_numbers() {
    assert!(numbers::TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    for arch in BOTH {
        let mut all: Vec<u32> = numbers::all(arch).collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(all.last(), Some(&469));
    }
    let both = |name| BOTH.map(|arch| numbers::number(arch, name));
    assert_eq!(both("read"), [Some(0), Some(63)]);
    assert_eq!(both("open"), [Some(2), None]);
    assert_eq!(both("clone3"), [Some(435), Some(435)]);
    assert_eq!(both("mmap"), [Some(9), Some(222)]);
    assert_eq!(both("setxattrat"), [Some(463), Some(463)]);
    assert_eq!(both("uprobe"), [Some(336), None]);
    assert_eq!(both("no_such_call"), [None, None]);
}

#[test]
fn every_name_of_the_profile_is_in_the_table() {
    for name in profile::names() {
        assert!(BOTH.iter().any(|arch| numbers::number(*arch, name).is_some()), "{name}");
    }
}

#[test]
fn no_name_is_in_two_places_of_the_profile() {
    let mut names: Vec<&str> = profile::names().collect();
    let length = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), length);
}

#[test]
fn unknown_numbers_are_absent_and_known_ones_never_are() {
    for arch in BOTH {
        let program = default(arch);
        let known: Vec<u32> = numbers::all(arch).collect();
        let clone3 = numbers::number(arch, "clone3").expect("known");
        for nr in 0..1024 {
            let absent = ask_number(&program, arch, nr, [0; 6]) == ENOSYS;
            assert_eq!(absent, nr == clone3 || !known.contains(&nr), "{arch:?} {nr}");
        }
        for nr in [X32_BIT - 1, X32_BIT, u32::MAX - 1, u32::MAX] {
            assert_eq!(ask_number(&program, arch, nr, [0; 6]), ENOSYS);
        }
    }
}

#[test]
fn x32_calls_are_absent_in_every_profile() {
    let lenient = Rules { default: Action::Allow, rules: vec![] };
    let custom = compile(Arch::X86_64, &lenient).expect("compiles").0;
    for program in [default(Arch::X86_64), custom] {
        for nr in (0..1024).map(|nr| nr | X32_BIT) {
            assert_eq!(ask_number(&program, Arch::X86_64, nr, [0; 6]), ENOSYS);
        }
    }
}

#[test]
fn a_foreign_architecture_is_killed() {
    const I386: u32 = 0x4000_0003;
    const ARM: u32 = 0x4000_0028;
    for (arch, other) in [(Arch::X86_64, Arch::Aarch64), (Arch::Aarch64, Arch::X86_64)] {
        let custom = compile(arch, &Rules { default: Action::Allow, rules: vec![] }).expect("compiles").0;
        for program in [default(arch), default_program(arch, u64::MAX, true), custom] {
            for foreign in [I386, ARM, other.audit(), 0, u32::MAX] {
                for nr in 0..1024 {
                    let data = SeccompData { nr, arch: foreign, ip: 0, args: [0; 6] };
                    assert_eq!(run(&program, &data).0, KILL);
                }
            }
        }
    }
}

#[test]
fn the_default_is_short_and_shallow() {
    for arch in BOTH {
        for (mask, setid) in [(0, false), (capabilities::DEFAULT, true), (capabilities::ALL, false)] {
            let program = default_program(arch, mask, setid);
            check(&program);
            assert!(program.len() <= 200, "{} instructions", program.len());
            let deepest = (0..512).map(|nr| {
                let data = SeccompData { nr, arch: arch.audit(), ip: 0, args: [0; 6] };
                run(&program, &data).1
            });
            assert!(deepest.max() <= Some(20));
        }
    }
}

#[test]
fn no_capability_opens_these() {
    const NEVER: &str = "add_key request_key keyctl io_uring_setup io_uring_enter io_uring_register userfaultfd \
                         kexec_load kexec_file_load swapon swapoff pivot_root move_pages migrate_pages";
    for arch in BOTH {
        let program = default_program(arch, u64::MAX, false);
        for name in NEVER.split_whitespace() {
            assert_eq!(ask(&program, arch, name, &[]), EPERM, "{name}");
        }
    }
}

#[test]
fn a_capability_opens_its_calls_and_no_other() {
    let opens: &[(u8, &str)] = &[
        (capabilities::SYS_ADMIN, "mount"),
        (capabilities::SYS_ADMIN, "setns"),
        (capabilities::SYS_ADMIN, "bpf"),
        (capabilities::BPF, "bpf"),
        (capabilities::SYS_ADMIN, "perf_event_open"),
        (capabilities::SYS_ADMIN, "syslog"),
        (capabilities::PERFMON, "perf_event_open"),
        (capabilities::SYSLOG, "syslog"),
        (capabilities::DAC_READ_SEARCH, "open_by_handle_at"),
        (capabilities::SYS_PTRACE, "kcmp"),
        (capabilities::SYS_CHROOT, "chroot"),
        (capabilities::SYS_MODULE, "init_module"),
        (capabilities::SYS_TIME, "clock_settime"),
        (capabilities::SYS_BOOT, "reboot"),
        (capabilities::SYS_TTY_CONFIG, "vhangup"),
        (capabilities::SYS_NICE, "mbind"),
        (capabilities::SYS_PACCT, "acct"),
    ];
    for arch in BOTH {
        for (_, name) in opens {
            for capability in 0..64 {
                let program = default_program(arch, capabilities::bit(capability), false);
                let expected = if opens.contains(&(capability, name)) { ALLOW } else { EPERM };
                assert_eq!(ask(&program, arch, name, &[]), expected, "{name} with {capability}");
            }
        }
    }
    for (capability, expected) in [(capabilities::SYS_RAWIO, ALLOW), (capabilities::SYS_ADMIN, EPERM)] {
        let program = default_program(Arch::X86_64, capabilities::bit(capability), false);
        assert_eq!(ask(&program, Arch::X86_64, "iopl", &[]), expected);
    }
}

#[test]
fn namespaces_need_sys_admin() {
    const FLAGS: [u64; 7] = [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
    for arch in BOTH {
        let (plain, admin) = (default(arch), default_program(arch, capabilities::bit(capabilities::SYS_ADMIN), false));
        for flag in FLAGS {
            assert_eq!(ask(&plain, arch, "clone", &[flag | 17]), EPERM);
            assert_eq!(ask(&plain, arch, "clone", &[flag | 1 << 63]), EPERM);
            assert_eq!(ask(&admin, arch, "clone", &[flag | 17]), ALLOW);
        }
        assert_eq!(ask(&plain, arch, "clone", &[0x3d_0f00]), ALLOW, "a thread");
        assert_eq!(ask(&plain, arch, "clone3", &[]), ENOSYS);
        assert_eq!(ask(&admin, arch, "clone3", &[]), ALLOW);
    }
}

#[test]
fn socket_families_are_an_allow_list() {
    for arch in BOTH {
        let program = default(arch);
        for name in ["socket", "socketpair"] {
            for family in 0..256 {
                let expected = if [0, 1, 2, 10, 16].contains(&family) { ALLOW } else { EPERM };
                assert_eq!(ask(&program, arch, name, &[family, 1, 0]), expected, "{family}");
                assert_eq!(ask(&program, arch, name, &[family | 1 << 32, 1, 0]), expected, "the kernel reads 32 bits");
            }
            assert_eq!(ask(&program, arch, name, &[16, 3, 9]), Action::Errno(22).value(), "NETLINK_AUDIT");
            assert_eq!(ask(&program, arch, name, &[2, 3, 9]), ALLOW);
        }
        let auditor = default_program(arch, capabilities::bit(capabilities::AUDIT_WRITE), false);
        assert_eq!(ask(&auditor, arch, "socket", &[16, 3, 9]), ALLOW);
    }
}

#[test]
fn terminal_input_and_odd_personalities_are_denied() {
    for arch in BOTH {
        let program = default_program(arch, u64::MAX, false);
        for command in [0x5412, 0x541c, 0x5412 | 1 << 32, 0x541c | 0xffff_ffff << 32] {
            assert_eq!(ask(&program, arch, "ioctl", &[0, command]), EPERM);
        }
        for command in [0x5401, 0x5413, 0x541b, 0x541d] {
            assert_eq!(ask(&program, arch, "ioctl", &[0x5412, command, 0x5412]), ALLOW);
        }
        for persona in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff, u64::MAX] {
            assert_eq!(ask(&program, arch, "personality", &[persona]), ALLOW);
        }
        for persona in [1, 4, 0x4_0000, 0x40_0000, 0x2_0009] {
            assert_eq!(ask(&program, arch, "personality", &[persona]), EPERM);
        }
    }
}

#[test]
fn setid_bits_are_denied_when_asked() {
    const MODES: &[(&str, usize)] =
        &[("fchmod", 1), ("fchmodat", 2), ("fchmodat2", 2), ("mknodat", 2), ("chmod", 1), ("creat", 1), ("mknod", 1)];
    for arch in BOTH {
        let (strict, plain) = (default_program(arch, u64::MAX, true), default_program(arch, u64::MAX, false));
        for (name, index) in MODES.iter().filter(|(name, _)| numbers::number(arch, name).is_some()) {
            for (mode, expected) in [(0o755, ALLOW), (0o1777, ALLOW), (0o4755, EPERM), (0o2755, EPERM), (0o6000, EPERM)]
            {
                let mut args = [0o6000; 6]; // the other arguments do not count
                args[*index] = mode;
                assert_eq!(ask(&strict, arch, name, &args), expected, "{name} {mode:o}");
                assert_eq!(ask(&plain, arch, name, &args), ALLOW);
            }
        }
        assert_eq!(ask(&strict, arch, "openat2", &[]), ENOSYS);
        assert_eq!(ask(&plain, arch, "openat2", &[]), ALLOW);
        for (flags, mode, expected) in [
            (0, 0o6755, ALLOW), // no file is made: the mode is garbage
            (0o101, 0o6755, EPERM),
            (0o20_200_002, 0o4755, EPERM),
            (0o20_040_002, 0o4755, EPERM),
            (0o101, 0o1777, ALLOW),
        ] {
            assert_eq!(ask(&strict, arch, "openat", &[0, 0, flags, mode]), expected);
            if arch == Arch::X86_64 {
                assert_eq!(ask(&strict, arch, "open", &[0, flags, mode]), expected);
            }
        }
    }
}

#[test]
fn the_bytes_are_sock_filters() {
    let bytes = to_bytes(&[Insn { code: 0x15, jt: 1, jf: 2, k: 0x0403_0201 }]);
    assert_eq!(bytes[..2], 0x15_u16.to_ne_bytes());
    assert_eq!(bytes[2..4], [1, 2]);
    assert_eq!(bytes[4..], 0x0403_0201_u32.to_ne_bytes());
}
