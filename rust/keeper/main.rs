//! The helper: keeper of one interpreter's containers, PID 1 of each, and the set-up of each command. Static, no libc, no allocator.
#![no_std]
#![no_main]
#![allow(dead_code)] // removal, sys and wire are shared with the host, which uses more of them

#[path = "../src/removal.rs"]
mod removal;
#[path = "../src/sys/mod.rs"]
mod sys;
#[path = "../src/wire.rs"]
mod wire;

mod account;
mod beneath;
mod cache;
mod command;
mod container;
mod evidence;
mod exec;
mod guests;
mod inside;
mod keeper;
mod launch;
mod log;
mod maps;
mod oom;
mod outside;
mod overlay;
mod pid1;
mod plan;
mod prelude;
mod procfs;
mod remove;
mod requests;
mod rootless;
mod users;
mod view;
mod visitors;
mod witness;

#[unsafe(no_mangle)]
fn keeper_main() -> i32 {
    keeper::serve()
}
