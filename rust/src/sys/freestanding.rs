//! What a program without libc needs: its entry, the four memory functions that the compiler calls, a panic that ends it.

use super::process::exit_group;
use super::{call, nr};

unsafe extern "Rust" {
    /// Defined by the program's main.rs.
    safe fn keeper_main() -> i32;
}

pub extern "C" fn enter() -> ! {
    exit_group(keeper_main())
}

unsafe extern "C" {
    /// The linker's: where the program's own memory ends.
    static _end: u8;
}

/// Goes on as `body`, which gets a number and nothing else, without what this process had mapped: plans, tables, streams of others.
/// What is left is the program and its stack.
pub fn forget_and(body: fn(i32) -> !, argument: i32) -> ! {
    const PAGE: usize = 1 << 16; // the largest that this kernel's architectures have
    const STACK: usize = 256 * 1024;
    let here = 0u8;
    let first = (&raw const _end as usize).next_multiple_of(PAGE);
    let last = (&raw const here as usize).saturating_sub(STACK) & !(PAGE - 1);
    // SAFETY: mappings lie between a static program and its stack; `body` has no way to a reference into them.
    let _ = unsafe { call(nr::MUNMAP, [first, last.saturating_sub(first)]) };
    body(argument)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit_group(70) // EX_SOFTWARE; the host reports a keeper that died
}

#[cfg(target_arch = "x86_64")]
mod copy {
    use core::arch::asm;

    pub unsafe fn forward(to: *mut u8, from: *const u8, count: usize) {
        // SAFETY: the caller's ranges; direction flag is clear by the ABI.
        unsafe {
            asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack, preserves_flags))
        }
    }

    pub unsafe fn fill(to: *mut u8, byte: u8, count: usize) {
        // SAFETY: the caller's range.
        unsafe {
            asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("al") byte, options(nostack, preserves_flags))
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod copy {
    use core::arch::asm;

    pub unsafe fn forward(to: *mut u8, from: *const u8, count: usize) {
        // SAFETY: the caller's ranges; a loop in assembly, since one in Rust would be compiled into a call of memcpy.
        unsafe {
            asm!("cbz {n}, 3f", "2:", "ldrb {b:w}, [{f}], #1", "strb {b:w}, [{t}], #1", "subs {n}, {n}, #1", "b.ne 2b", "3:",
                n = inout(reg) count => _, f = inout(reg) from => _, t = inout(reg) to => _, b = out(reg) _, options(nostack));
        }
    }

    pub unsafe fn fill(to: *mut u8, byte: u8, count: usize) {
        // SAFETY: the caller's range.
        unsafe {
            asm!("cbz {n}, 3f", "2:", "strb {b:w}, [{t}], #1", "subs {n}, {n}, #1", "b.ne 2b", "3:",
                n = inout(reg) count => _, t = inout(reg) to => _, b = in(reg) byte as u32, options(nostack));
        }
    }
}

/// # Safety
/// As memcpy(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller's ranges.
    unsafe { copy::forward(to, from, count) };
    to
}

/// # Safety
/// As memmove(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize) <= from as usize || to as usize >= from as usize + count {
        // SAFETY: no byte is overwritten before it is read.
        unsafe { copy::forward(to, from, count) };
        return to;
    }
    let mut i = count;
    while i > 0 {
        i -= 1;
        // SAFETY: within the caller's range.
        let byte = unsafe { from.add(i).read_volatile() };
        // SAFETY: within the caller's range.
        unsafe { to.add(i).write_volatile(byte) };
    }
    to
}

/// # Safety
/// As memset(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller's range.
    unsafe { copy::fill(to, byte as u8, count) };
    to
}

/// # Safety
/// As memcmp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    for i in 0..count {
        // SAFETY: within the caller's range.
        let x = unsafe { a.add(i).read_volatile() };
        // SAFETY: within the caller's range.
        let y = unsafe { b.add(i).read_volatile() };
        if x != y {
            return x as i32 - y as i32;
        }
    }
    0
}

/// # Safety
/// As bcmp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's ranges.
    unsafe { memcmp(a, b, count) }
}

/// # Safety
/// As strlen(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the text ends with a zero, as the caller says.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}
