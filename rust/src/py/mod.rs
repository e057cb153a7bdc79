//! THE ONLY room that names pyo3: arguments in, frozen objects and exceptions out.

pub mod build;
pub mod child;
pub mod commit;
pub mod container;
pub mod control;
pub mod copies;
pub mod doctor;
pub mod errors;
pub mod files;
pub mod foreign;
pub mod functions;
pub mod images;
pub mod progress;
pub mod registry;
mod shared;
pub mod spec;

/// Once, when the module is made.
pub fn begin() {
    crate::spawn::steward::lend();
}

/// Built with test-only switches.
pub const TEST_SEAMS: bool = crate::spawn::seams::ENABLED;
