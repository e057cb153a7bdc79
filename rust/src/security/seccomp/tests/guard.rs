//! The filter beside any other one: no set-id bit and, where the host's root owns what is written, no file capability.

use super::*;

const EOPNOTSUPP: u32 = Action::Errno(95).value();
const O_CREAT: u64 = 0o100;
const O_TMPFILE: u64 = 0o20_200_000;
const MODES: [u64; 5] = [0o4755, 0o2755, 0o6755, 0o6000, 0o7777];
/// (name, the words before its mode).
const WITH_MODE: [(&str, &[u64]); 7] = [
    ("chmod", &[1]),
    ("fchmod", &[3]),
    ("fchmodat", &[3, 1]),
    ("fchmodat2", &[3, 1]),
    ("creat", &[1]),
    ("mknod", &[1]),
    ("mknodat", &[3, 1]),
];
const XATTRS: [&str; 4] = ["setxattr", "lsetxattr", "fsetxattr", "setxattrat"];

fn both_guards() -> impl Iterator<Item = (Arch, bool, Vec<Insn>)> {
    BOTH.into_iter().flat_map(|arch| [false, true].map(|of_root| (arch, of_root, guard_program(arch, of_root))))
}

fn there(arch: Arch, name: &str) -> bool {
    numbers::number(arch, name).is_some()
}

#[test]
fn no_call_with_a_mode_gives_a_set_id_bit() {
    for (arch, _, program) in both_guards() {
        check(&program);
        for (name, before) in WITH_MODE.iter().filter(|(name, _)| there(arch, name)) {
            let with = |mode| ask(&program, arch, name, &[before, &[mode][..]].concat());
            for mode in MODES {
                assert_eq!(with(mode), EPERM, "{name} {mode:o}");
            }
            // Only the low half of a register is a mode; what is above it changes nothing.
            assert_eq!(with(0xdead_beef << 32 | 0o4755), EPERM, "{name}");
            assert_eq!((with(0o777), with(0o1777), with(0o4000 << 32)), (ALLOW, ALLOW, ALLOW), "{name}");
        }
    }
}

#[test]
fn a_mode_counts_where_a_file_is_made() {
    for (arch, _, program) in both_guards() {
        for (name, before) in [("open", &[1][..]), ("openat", &[3, 1][..])] {
            if !there(arch, name) {
                continue;
            }
            let with = |flags, mode| ask(&program, arch, name, &[before, &[flags, mode][..]].concat());
            for making in [O_CREAT, O_TMPFILE, O_CREAT | 2] {
                assert!(MODES.iter().all(|mode| with(making, *mode) == EPERM), "{name} {making:o}");
                assert_eq!(with(making, 0o644), ALLOW);
            }
            // Without the flags the word is whatever the register held.
            assert!(MODES.iter().all(|mode| with(0, *mode) == ALLOW), "{name}");
        }
    }
}

#[test]
fn what_hides_a_mode_behind_a_pointer_is_not_there() {
    for (arch, _, program) in both_guards() {
        for name in ["openat2", "io_uring_setup", "io_uring_enter"] {
            assert_eq!(ask(&program, arch, name, &[]), ENOSYS, "{name}");
        }
    }
}

#[test]
fn attributes_are_refused_only_where_roots_files_are_written() {
    for (arch, of_root, program) in both_guards() {
        for name in XATTRS {
            assert_eq!(ask(&program, arch, name, &[]), if of_root { EOPNOTSUPP } else { ALLOW }, "{name}");
        }
        assert_eq!(ask(&program, arch, "getxattr", &[]), ALLOW);
    }
}

#[test]
fn it_refuses_nothing_else() {
    let mut guarded: Vec<&str> = WITH_MODE.iter().map(|(name, _)| *name).chain(XATTRS).collect();
    guarded.extend(["open", "openat", "openat2", "io_uring_setup", "io_uring_enter"]);
    for (arch, _, program) in both_guards() {
        let numbers_of: Vec<u32> = guarded.iter().filter_map(|name| numbers::number(arch, name)).collect();
        for number in numbers::all(arch).filter(|number| !numbers_of.contains(number)) {
            assert_eq!(ask_number(&program, arch, number, [u64::MAX; 6]), ALLOW, "{number}");
        }
    }
}

#[test]
fn no_other_door_leads_around_it() {
    for (arch, _, program) in both_guards() {
        let chmod = numbers::number(arch, "fchmod").expect("fchmod");
        let other = if arch == Arch::X86_64 { 0x4000_0003 } else { 0x4000_0028 }; // i386, arm
        let asked = SeccompData { nr: chmod, arch: other, ip: 0, args: [3, 0o4755, 0, 0, 0, 0] };
        assert_eq!(run(&program, &asked).0, KILL);
        if arch == Arch::X86_64 {
            let x32 = ask_number(&program, arch, chmod | X32_BIT, [3, 0o4755, 0, 0, 0, 0]);
            assert_ne!(x32, ALLOW, "x32's own number of fchmod");
        }
    }
}
