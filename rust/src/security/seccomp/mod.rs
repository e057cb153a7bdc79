//! Seccomp: a profile becomes the bytes of a classic BPF program. Plain data only: nothing here calls the kernel.

mod compile;
mod numbers;
mod profile;
mod rules;
#[cfg(test)]
mod simulate;
#[cfg(test)]
mod tests;

pub use profile::{default_program, guard_program};
pub use rules::{ArgCmp, Rule, Rules, compile};

/// The longest program that seccomp(2) takes (BPF_MAXINSNS).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// x32 calls come with the audit arch of x86_64 and this bit; every number from here on is refused.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// The architectures with a number table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    /// The architecture this code was built for.
    #[cfg(target_arch = "x86_64")]
    pub const fn native() -> Self {
        Arch::X86_64
    }

    /// The architecture this code was built for.
    #[cfg(target_arch = "aarch64")]
    pub const fn native() -> Self {
        Arch::Aarch64
    }

    /// `AUDIT_ARCH_*` of linux/audit.h, which the kernel puts in `seccomp_data.arch`.
    pub const fn audit(self) -> u32 {
        match self {
            Arch::X86_64 => 0xc000_003e,
            Arch::Aarch64 => 0xc000_00b7,
        }
    }
}

/// What happens to a call; the numeric values are those of linux/seccomp.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Allow,
    Errno(u16),
    KillProcess,
    KillThread,
    Trap,
    Log,
}

impl Action {
    /// An action by its OCI name without "SCMP_ACT_", in lower case; an errno that is not said is EPERM, as in runc.
    pub fn parse(name: &str, errno: Option<u16>) -> Option<Self> {
        Some(match name {
            "allow" => Action::Allow,
            "errno" => Action::Errno(errno.unwrap_or(1)),
            "kill_process" => Action::KillProcess,
            "kill_thread" | "kill" => Action::KillThread,
            "trap" => Action::Trap,
            "log" => Action::Log,
            _ => return None,
        })
    }

    /// The value that the filter returns (`SECCOMP_RET_*`).
    pub const fn value(self) -> u32 {
        match self {
            Action::KillProcess => 0x8000_0000,
            Action::KillThread => 0,
            Action::Trap => 0x0003_0000,
            Action::Errno(errno) => 0x0005_0000 | errno as u32,
            Action::Log => 0x7ffc_0000,
            Action::Allow => 0x7fff_0000,
        }
    }

    /// The kernel's order among filters, strictest first: the value read as signed, as seccomp_run_filters() does.
    pub(crate) const fn strictness(self) -> i32 {
        (self.value() & 0xffff_0000).cast_signed()
    }
}

/// A comparison of one argument, as in libseccomp: unsigned, over all 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    /// `argument & value == value_two & value`
    MaskedEq,
}

impl Op {
    /// A comparison by its OCI name without "SCMP_CMP_", in lower case.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "ne" => Op::Ne,
            "lt" => Op::Lt,
            "le" => Op::Le,
            "eq" => Op::Eq,
            "ge" => Op::Ge,
            "gt" => Op::Gt,
            "masked_eq" => Op::MaskedEq,
            _ => return None,
        })
    }
}

/// One instruction: `struct sock_filter` of linux/filter.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// The program as the kernel reads it: an array of `struct sock_filter`, native byte order.
pub fn to_bytes(program: &[Insn]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for insn in program {
        bytes.extend_from_slice(&insn.code.to_ne_bytes());
        bytes.extend_from_slice(&[insn.jt, insn.jf]);
        bytes.extend_from_slice(&insn.k.to_ne_bytes());
    }
    bytes
}
