//! What a container used, and what it said at its end: the numbers and words of its last record. Changes nothing.

use crate::container::Container;
use crate::evidence;
use crate::sys::constants::*;
use crate::sys::{Errno, fs, net};
use crate::wire::{self, Ended, Fixed, Reader, flag, outcome, record};

pub fn measure_upper(upper: i32, ended: &mut Ended) {
    if upper < 0 {
        return;
    }
    if let Ok(seen) = fs::fstatfs(upper) {
        // What is free and not available is nobody's: ext4 keeps it for itself.
        ended.upper_bytes = (seen.blocks - seen.free + seen.available) * seen.block_size as u64;
        ended.upper_free = seen.available * seen.block_size as u64;
        ended.upper_files = seen.files;
        ended.upper_files_free = seen.files_free;
    }
}

/// What PID 1 had sent before it died: an error, or the command's status and the evidence, left in `buffer` at the returned length.
pub fn last_words(container: &Container, buffer: &mut [u8], ended: &mut Ended) -> usize {
    let mut kept = 0;
    loop {
        let received = match net::receive(container.control, &mut buffer[kept..], MSG_DONTWAIT) {
            Ok(received) if received.length > 0 => received,
            // It ended with a request of ours unread, which is told once, before what it had sent (unix_release_sock).
            Err(Errno::CONNRESET) => continue,
            _ => break,
        };
        let mut from = Reader::new(&buffer[kept..kept + received.length]);
        match from.u8() {
            Some(record::ERROR) => {
                ended.outcome = outcome::FAILED;
                ended.phase = from.u8().unwrap_or(0);
                ended.step = from.u16().unwrap_or(0);
                ended.errno = from.i32().unwrap_or(0);
            }
            Some(record::EXITED) => {
                let final_word =
                    read_exit(&mut from, ended).is_some_and(|pid2| pid2 || container.flags & flag::PID1 != 0);
                let left = from.rest().len();
                buffer.copy_within(kept + received.length - left..kept + received.length, kept);
                kept += left;
                ended.outcome = if final_word { outcome::EXITED } else { ended.outcome };
            }
            _ => {}
        }
    }
    kept
}

/// What the kernel says of a command that is PID 1, where it ended before anybody looked: until it is waited for, the kernel knows.
pub fn unseen(container: &Container) -> Fixed<{ wire::EVIDENCE_MAX }> {
    let mut seen = Fixed::new();
    if container.flags & flag::PID1 != 0 && container.started == 0 {
        evidence::of_process(container.pid, container.flags, &mut seen);
    }
    seen
}

/// All of it; nothing where there is no room, or where it never was the command. Returns how much.
pub fn append(ended: &Ended, bytes: &[u8], room: &mut [u8]) -> usize {
    match room.get_mut(..bytes.len()) {
        Some(place) if ended.outcome != outcome::FAILED => {
            place.copy_from_slice(bytes);
            bytes.len()
        }
        _ => 0,
    }
}

/// The command's own status and times, and whether they are there: the first record has the start only, and where the command is
/// PID 1 (or PID 1 was killed) the status is the one that was waited for.
fn read_exit(from: &mut Reader<'_>, ended: &mut Ended) -> Option<bool> {
    let command_is_pid2 = from.u8()? == 1;
    let (status, started, finished) = (from.i32()?, from.u64()?, from.u64()?);
    if command_is_pid2 {
        ended.status = status;
        ended.ended = finished;
    }
    ended.started = if ended.started == 0 { started } else { ended.started };
    Some(command_is_pid2)
}

/// Nanoseconds that the whole tree has spent; 0 where nothing counts them.
pub fn used_cpu_time(container: &Container) -> u64 {
    let mut text = [0u8; 256];
    let length = fs::pread(container.cpu_usage, &mut text, 0).unwrap_or(0);
    let scale = if container.flags & flag::CPU_V1 != 0 { 1 } else { 1000 };
    first_number(&text[..length]) * scale
}

/// Reads the budget's counter; where something is left, the next look is when all CPUs together could have spent it.
pub fn spent_cpu_time(container: &mut Container, now: u64) -> bool {
    let left = container.cpu_time.saturating_sub(used_cpu_time(container));
    container.next_cpu_check = now + (left / container.cpus.max(1) as u64).max(1_000_000);
    left == 0
}

/// "usage_usec 123\n..." of cpu.stat, or "123\n" of cpuacct.usage.
fn first_number(text: &[u8]) -> u64 {
    let digits = text.iter().skip_while(|byte| !byte.is_ascii_digit()).take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + (digit - b'0') as u64)
}
