//! The distribution protocol: images from registries and to them. Threads live as long as one call; no runtime, no state between calls.

mod answers;
mod auth;
mod blob;
pub mod cancel;
mod client;
mod conf;
pub mod fuzz;
mod patience;
mod pull;
mod push;
mod session;
mod upload;
mod url;
mod wire;

pub use auth::Given;
pub use client::{catalog, tags};
pub use patience::Patience;
pub use pull::{AT_ONCE, Pull, Pulled, pull};
pub use push::{Push, Pushed, push};
