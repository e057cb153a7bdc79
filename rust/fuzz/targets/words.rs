//! What people and files say in a word: references, digests, platforms.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| _core::image::fuzz::words(bytes));
