//! System call numbers by name up to Linux 6.18, for both architectures on any machine: no kernel call.

mod table;

pub(super) use table::TABLE;

/// No system call of this name on this architecture.
const NONE: u32 = u32::MAX;

/// The number of a name, if this architecture has the call.
pub(super) fn number(arch: super::Arch, name: &str) -> Option<u32> {
    let row = TABLE.binary_search_by(|row| row.0.cmp(name)).ok()?;
    column(arch, &TABLE[row])
}

/// Every number of this architecture.
pub(super) fn all(arch: super::Arch) -> impl Iterator<Item = u32> {
    TABLE.iter().filter_map(move |row| column(arch, row))
}

fn column(arch: super::Arch, row: &(&str, u32, u32)) -> Option<u32> {
    let number = match arch {
        super::Arch::X86_64 => row.1,
        super::Arch::Aarch64 => row.2,
    };
    (number != NONE).then_some(number)
}
