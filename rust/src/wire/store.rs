//! What a plain user asks of his steward among the files of his store: each a message, its word first, with the descriptors that it is
//! about. The answer is an errno, and a descriptor where one was asked for.

/// The root of a tree; behind the word an `Owned` for each file, with its path and its capability.
pub const OWN: u8 = 1;
/// A directory; behind the word the flags of open(2) and the name of one of its entries, which is not followed.
pub const OPEN: u8 = 2;
/// A directory; behind the word the name of the tree in it that goes.
pub const REMOVE: u8 = 3;

/// A message is at most this long.
pub const MESSAGE_MAX: usize = 32 * 1024;
/// Of a path from the root of its tree.
pub const PATH_MAX: usize = 4095;
