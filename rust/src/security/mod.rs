//! What a command may do: capabilities, the seccomp profile, ranges and maps of ids. Pure but for the claims of ranges.

pub mod capabilities;
pub mod ids;
pub mod maps;
pub mod seccomp;
