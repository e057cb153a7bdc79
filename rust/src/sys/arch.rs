//! System calls and process entry in machine code, per architecture. Nothing here knows what a call means.

#[cfg(target_arch = "x86_64")]
mod native {
    use core::arch::asm;

    /// Reviewed against syscall(2), "Architecture calling conventions": rax, then rdi rsi rdx r10 r8 r9; rcx and r11 are lost.
    ///
    /// # Safety
    /// As the system call itself.
    #[inline(always)]
    pub unsafe fn syscall(number: usize, a: [usize; 6]) -> isize {
        let result: isize;
        // SAFETY: the registers are those of the convention; what the call does to memory is the caller's promise.
        unsafe {
            asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
                in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        result
    }

    /// clone3 for a child with a stack of its own: the child calls `entry(argument)`, which must not return.
    ///
    /// # Safety
    /// `args` names a stack that outlives the child's use of it; `entry` and `argument` are valid in the child.
    pub unsafe fn clone3_onto_stack(
        args: *const u8,
        size: usize,
        entry: extern "C" fn(*mut u8) -> !,
        argument: *mut u8,
    ) -> isize {
        let result: isize;
        // SAFETY: the child leaves through `call` and never comes back to this frame; the parent sees one plain call.
        unsafe {
            asm!("syscall", "test rax, rax", "jnz 2f", "xor ebp, ebp", "and rsp, -16", "mov rdi, r9", "call r8", "ud2", "2:",
                inlateout("rax") super::super::nr::CLONE3 as isize => result, in("rdi") args, in("rsi") size,
                in("r8") entry, in("r9") argument, lateout("rcx") _, lateout("r11") _);
        }
        result
    }

    #[cfg(keeper)]
    core::arch::global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {main}", "ud2", main = sym super::super::freestanding::enter);
}

#[cfg(target_arch = "aarch64")]
mod native {
    use core::arch::asm;

    /// Reviewed against syscall(2), "Architecture calling conventions": x8, then x0 to x5; the result is in x0.
    ///
    /// # Safety
    /// As the system call itself.
    #[inline(always)]
    pub unsafe fn syscall(number: usize, a: [usize; 6]) -> isize {
        let result: isize;
        // SAFETY: the registers are those of the convention; what the call does to memory is the caller's promise.
        unsafe {
            asm!("svc #0", in("x8") number, inlateout("x0") a[0] as isize => result, in("x1") a[1], in("x2") a[2],
                in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
        }
        result
    }

    /// clone3 for a child with a stack of its own: the child calls `entry(argument)`, which must not return.
    ///
    /// # Safety
    /// `args` names a stack that outlives the child's use of it; `entry` and `argument` are valid in the child.
    pub unsafe fn clone3_onto_stack(
        args: *const u8,
        size: usize,
        entry: extern "C" fn(*mut u8) -> !,
        argument: *mut u8,
    ) -> isize {
        let result: isize;
        // SAFETY: the child leaves through `blr` and never comes back to this frame; the parent sees one plain call.
        unsafe {
            asm!("svc #0", "cbnz x0, 2f", "mov x29, xzr", "mov x0, x10", "blr x9", "brk #1", "2:",
                in("x8") super::super::nr::CLONE3, inlateout("x0") args as isize => result, in("x1") size,
                in("x9") entry, in("x10") argument, lateout("x30") _);
        }
        result
    }

    #[cfg(keeper)]
    core::arch::global_asm!(".globl _start", "_start:", "mov x29, xzr", "bl {main}", "brk #1", main = sym super::super::freestanding::enter);
}

pub use native::{clone3_onto_stack, syscall};
