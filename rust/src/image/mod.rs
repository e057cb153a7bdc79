//! Where root file systems come from: directories, archives, and this machine itself.

pub mod archive;
pub mod skeleton;
