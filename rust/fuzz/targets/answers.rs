//! What a registry answers: WWW-Authenticate, Link, Content-Range, Retry-After, errors, tokens, where it redirects to.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| _core::registry::fuzz::answers(bytes));
