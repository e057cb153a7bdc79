//! Manifests, indexes, configs: the same bytes as each of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| _core::image::fuzz::documents(bytes));
