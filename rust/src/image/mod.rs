//! Where root file systems come from: directories, archives, images of layers, and this machine itself.

pub mod archive;
pub mod descriptor;
pub mod digest;
pub mod locks;
pub mod platform;
pub mod reference;
mod remove;
pub mod skeleton;
pub mod store;
pub mod unpacked;
