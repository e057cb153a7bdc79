//! Where root file systems come from: directories, archives, images of layers, and this machine itself.

pub mod archive;
pub mod descriptor;
pub mod digest;
pub mod fuzz;
pub mod layers;
pub mod locks;
pub mod reference;
mod remove;
pub mod skeleton;
pub mod store;
pub mod unpacked;
pub mod used;
