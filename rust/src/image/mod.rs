//! Where root file systems come from: directories, archives, images of layers, and this machine itself.

pub mod archive;
pub mod commit;
pub mod compose;
pub mod copying;
pub mod descriptor;
pub mod digest;
pub mod found;
pub mod fuzz;
pub mod garbage;
mod implied;
pub mod layers;
pub mod load;
pub mod locks;
mod packed;
mod partial;
pub mod progress;
pub mod reference;
mod remove;
pub mod save;
pub mod skeleton;
pub mod steps;
pub mod store;
pub mod union;
pub mod unpacked;
pub mod used;
pub mod whole;
pub mod writer;
