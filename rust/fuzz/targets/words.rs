//! What people and files say in a word: references, digests, platforms, user names.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| _core::image::fuzz::words(bytes));
