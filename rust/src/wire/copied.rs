//! What lies in the directory of a root that is a copy of its image.

use core::ffi::CStr;

/// The root itself, under the name of an overlay's upper directory.
pub const ROOT: &CStr = c"upper";
/// Written when the copy was complete: what changed later was changed by the container. In it, how far the owners of the copy and of
/// the original as it is seen lie apart, four bytes.
pub const NOTE: &CStr = c"copied";
/// The same, from the root.
pub const NOTE_BESIDE: &CStr = c"../copied";
/// How many ids a container has, and who the others are on every Linux (overflowuid).
pub const IDS: u32 = 65536;
pub const NOBODY: u32 = 65534;
/// In place of a slot.
pub const NO_LOWER: super::Slot = super::Slot::MAX;
