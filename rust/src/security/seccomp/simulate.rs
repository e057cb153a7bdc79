//! An interpreter for the classic BPF that seccomp takes, for tests: it panics at whatever the kernel would refuse.

use super::Insn;

/// `struct seccomp_data` of linux/seccomp.h.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeccompData {
    pub nr: u32,
    pub arch: u32,
    pub ip: u64,
    pub args: [u64; 6],
}

impl SeccompData {
    fn word(&self, offset: u32) -> u32 {
        assert!(offset.is_multiple_of(4) && offset < 64, "the kernel refuses a load at {offset}");
        let half = |value: u64, offset: u32| {
            if offset.is_multiple_of(8) { value as u32 } else { (value >> 32) as u32 }
        };
        match offset {
            0 => self.nr,
            4 => self.arch,
            8 | 12 => half(self.ip, offset),
            _ => half(self.args[(offset as usize - 16) / 8], offset),
        }
    }
}

/// What the program answers, and how many instructions it took.
pub(super) fn run(program: &[Insn], data: &SeccompData) -> (u32, usize) {
    let (mut accumulator, mut next) = (0_u32, 0_usize);
    for steps in 1..=program.len() {
        let insn = program[next];
        next += 1;
        let taken = match insn.code {
            0x06 => return (insn.k, steps),
            0x20 => {
                accumulator = data.word(insn.k);
                continue;
            }
            0x54 => {
                accumulator &= insn.k;
                continue;
            }
            0x05 => {
                next += insn.k as usize;
                continue;
            }
            0x15 => accumulator == insn.k,
            0x25 => accumulator > insn.k,
            0x35 => accumulator >= insn.k,
            code => panic!("unknown instruction {code:#x}"),
        };
        next += usize::from(if taken { insn.jt } else { insn.jf });
    }
    panic!("the program does not end")
}

/// What bpf_check_classic() asks for: every jump lands inside, the last instruction returns.
pub(super) fn check(program: &[Insn]) {
    assert_eq!(program.last().map(|insn| insn.code), Some(0x06));
    for (at, insn) in program.iter().enumerate() {
        let farthest = match insn.code {
            0x05 => insn.k as usize,
            0x15 | 0x25 | 0x35 => usize::from(insn.jt.max(insn.jf)),
            _ => 0,
        };
        assert!(at + 1 + farthest < program.len() || insn.code == 0x06, "jump out of the program at {at}");
    }
}
