//! The helper: keeper of one interpreter's containers, PID 1 of each, and the set-up of each command. Static, no libc, no allocator.
#![no_std]
#![no_main]
#![allow(dead_code)] // removal, sys and wire are shared with the host, which uses more of them

#[path = "../src/removal.rs"]
mod removal;
#[path = "../src/sys/mod.rs"]
mod sys;
#[path = "../src/transfer/mod.rs"]
mod transfer;
#[path = "../src/wire.rs"]
mod wire;

mod account;
mod agent;
mod agents;
mod beneath;
mod cache;
mod carry;
mod command;
mod connections;
mod container;
mod content;
mod daemons;
mod ends;
mod evidence;
mod exec;
mod flows;
mod guests;
mod inside;
mod keeper;
mod kept;
mod launch;
mod lend;
mod log;
mod maps;
mod oom;
mod outside;
mod overlay;
mod pid1;
mod plan;
mod porter;
mod prelude;
mod procfs;
mod remove;
mod requests;
mod rootless;
mod scribes;
mod served;
mod steward;
mod update;
mod users;
mod view;
mod visitors;
mod witness;

#[unsafe(no_mangle)]
fn keeper_main() -> i32 {
    keeper::serve()
}
