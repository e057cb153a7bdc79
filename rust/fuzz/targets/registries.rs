//! registries.conf, and where a name is looked for by it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| _core::registry::fuzz::registries(bytes));
