//! Root file systems as lists of operations: what the keeper makes outside, and what PID 1 does inside. Pure: no system calls.

pub mod host;
pub mod layers;
pub mod layout;
pub mod list;
pub mod wanted;
