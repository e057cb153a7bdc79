//! Processes that share this one's memory and run beside it, each in a place of its own: a fork copies page tables, and then pages as they
//! are touched, which takes longer than all that such a process has to do. Of single-threaded programs without libc only.

use super::constants::{CLONE_VM, SIGCHLD};
use super::errno::check;
use super::memory::{Arena, Room};
use super::process::{CloneArgs, Cloned, clone_copy, exit_group};
use super::{Result, arch};
use core::sync::atomic::{AtomicI32, Ordering};

const STACK: usize = 128 * 1024;
/// A place of this length serves again.
const USUAL: usize = 256 * 1024;
const ALIGNED: usize = 16;

/// Memory that one process works in, and the word in which the kernel names the process that it forks onto that memory, for as long as
/// that one is there.
pub struct Workspace<'a> {
    pub memory: Arena<'a>,
    pub guest: &'a AtomicI32,
}

/// What a process beside has to itself, until it ends.
pub struct Place {
    /// What it was told.
    pub told: &'static mut [u8],
    pub workspace: Workspace<'static>,
}

/// Stands at the beginning of a place.
#[repr(C, align(16))]
struct Head<T> {
    /// First, whatever the task is. The kernel clears it when that process executes or ends (CLONE_CHILD_CLEARTID).
    guest: AtomicI32,
    body: fn(T, Place) -> i32,
    task: T,
    told: usize,
    length: usize,
}

/// The places that are taken, and one that serves again.
pub struct Places<const N: usize> {
    taken: [Option<Taken>; N],
    spare: Room,
}

struct Taken {
    room: Room,
    /// 0: it has ended, but what it forked may still be on its pages.
    pid: i32,
}

/// How much a process beside has: bytes that it is told, of which some are copied now, and bytes for what it makes.
pub struct Sizes<'a> {
    pub told: usize,
    pub begins: &'a [u8],
    pub made: usize,
}

impl<'a> Workspace<'a> {
    pub fn of(bytes: &'a mut [u8]) -> Result<Workspace<'a>> {
        let mut memory = Arena::of(bytes);
        Ok(Workspace { guest: memory.word()?, memory })
    }
}

impl<const N: usize> Places<N> {
    pub fn none() -> Places<N> {
        Places { taken: [const { None }; N], spare: Room::NONE }
    }

    /// Starts one. `shared`: on this memory; otherwise, or where no place is left, on a copy of it.
    pub fn start<T: Copy + 'static>(
        &mut self,
        shared: bool,
        sizes: &Sizes<'_>,
        task: T,
        body: fn(T, Place) -> i32,
    ) -> Result<()> {
        self.give_back();
        let length = size_of::<Head<T>>() + sizes.told + sizes.made + STACK;
        let mut room = if length > USUAL { Room::NONE } else { self.spare.take() };
        let bytes = room.make(length.max(USUAL).next_multiple_of(ALIGNED))?;
        let head = Head { guest: AtomicI32::new(0), body, task, told: sizes.told, length: bytes.len() };
        // SAFETY: bytes of at least that length, aligned to a page, which nobody else has.
        unsafe { bytes.as_mut_ptr().cast::<Head<T>>().write(head) };
        bytes[size_of::<Head<T>>()..][..sizes.begins.len()].copy_from_slice(sizes.begins);
        let free = self.taken.iter_mut().find(|taken| taken.is_none());
        let started = if shared && free.is_some() {
            clone_onto::<T>(&mut room).map(|pid| Taken { room: room.take(), pid })
        } else {
            clone_copy(0, None).map(|cloned| match cloned {
                Cloned::Child => enter::<T>(room.bytes().as_mut_ptr()),
                Cloned::Parent { pid, .. } => Taken { room: Room::NONE, pid },
            })
        };
        room.give_back();
        let taken = started?;
        if let Some(free) = free {
            *free = Some(taken);
        }
        Ok(())
    }

    /// Whether it is one of them; of more than there are places nobody is known.
    pub fn has(&self, pid: i32) -> bool {
        self.taken.iter().flatten().any(|taken| taken.pid == pid)
    }

    /// Whether a place is kept that serves again.
    pub fn has_spare(&mut self) -> bool {
        !self.spare.bytes().is_empty()
    }

    pub fn give_spare_back(&mut self) {
        self.spare.give_back();
    }

    /// This child has been reaped.
    pub fn ended(&mut self, pid: i32) {
        self.taken.iter_mut().flatten().filter(|taken| taken.pid == pid).for_each(|taken| taken.pid = 0);
        self.give_back();
    }

    /// The places of those that have ended, unless what they forked has outlived them there.
    fn give_back(&mut self) {
        for place in &mut self.taken {
            let Some(mut left) = place.take_if(|taken| taken.pid == 0 && taken.has_no_guest()) else { continue };
            if left.room.bytes().len() == USUAL && self.spare.bytes().is_empty() {
                self.spare = left.room.take();
            }
            left.room.give_back();
        }
    }
}

impl Taken {
    fn has_no_guest(&mut self) -> bool {
        if self.room.bytes().is_empty() {
            return true; // a copy
        }
        // SAFETY: a Head begins the pages, and begins with this word, whatever its task is.
        let guest = unsafe { &*self.room.bytes().as_ptr().cast::<AtomicI32>() };
        guest.load(Ordering::Acquire) == 0
    }
}

fn clone_onto<T: Copy + 'static>(room: &mut Room) -> Result<i32> {
    let bytes = room.bytes();
    let at = bytes.as_mut_ptr();
    let args = CloneArgs {
        flags: CLONE_VM,
        exit_signal: SIGCHLD as u64,
        stack: at as u64 + (bytes.len() - STACK) as u64,
        stack_size: STACK as u64,
        ..CloneArgs::default()
    };
    // SAFETY: the pages hold a Head<T> and stay until the child has been reaped; nobody else uses them meanwhile.
    let pid = unsafe { arch::clone3_onto_stack(&raw const args as *const u8, size_of::<CloneArgs>(), enter::<T>, at) };
    check(pid).map(|pid| pid as i32)
}

extern "C" fn enter<T: Copy + 'static>(at: *mut u8) -> ! {
    // SAFETY: `start` wrote it, and left the pages to this process for as long as it lives.
    let head = unsafe { &*at.cast::<Head<T>>() };
    let begin = size_of::<Head<T>>();
    // SAFETY: likewise; what lies before `begin` and from the stack on is not among them.
    let free = unsafe { core::slice::from_raw_parts_mut(at.add(begin), head.length - STACK - begin) };
    let (told, made) = free.split_at_mut(head.told);
    let workspace = Workspace { memory: Arena::of(made), guest: &head.guest };
    exit_group((head.body)(head.task, Place { told, workspace }))
}
