//! A blob on its way into the store that is unpacked while it comes: who writes it says how much there is, who reads it waits for more.
//! What was read is trusted by nobody before the blob is whole, and its digest the right one.

use super::PACE;
use std::fs::File;
use std::io::{Error, Result};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Whole,
    Failed,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<(u64, End)>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, (u64, End)> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn end(&self, end: End) {
        let mut state = self.state();
        if state.1 == End::Open {
            state.1 = end;
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// Of who writes it. Dropped before it is whole, it has failed.
#[derive(Debug)]
pub struct Coming(Arc<Shared>);

/// Of who reads it, from the beginning.
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    file: File,
    at: u64,
}

/// The two ends of what is written to `file`.
pub fn coming(file: File) -> (Coming, Follower) {
    let shared = Arc::new(Shared { state: Mutex::new((0, End::Open)), changed: Condvar::new() });
    (Coming(shared.clone()), Follower { shared, file, at: 0 })
}

impl Coming {
    /// So many bytes of it are there, and stay as they are.
    pub fn grown(&self, size: u64) {
        self.0.state().0 = size;
        self.0.changed.notify_all();
    }

    /// All of it is there, under its digest.
    pub fn whole(self) {
        self.0.end(End::Whole);
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.end(End::Failed);
    }
}

/// What becomes of it, asked while somebody else reads.
#[derive(Debug, Clone)]
pub struct Fate(Arc<Shared>);

impl Fate {
    pub fn is_whole(&self) -> bool {
        self.0.state().1 == End::Whole
    }

    pub fn has_failed(&self) -> bool {
        self.0.state().1 == End::Failed
    }
}

impl Follower {
    pub fn fate(&self) -> Fate {
        Fate(self.shared.clone())
    }

    /// Waits for what comes next; 0 once it is whole and read.
    pub fn read(&mut self, buffer: &mut [u8], stop: &AtomicBool) -> Result<usize> {
        let mut state = self.shared.state();
        while state.0 <= self.at {
            match state.1 {
                End::Whole => return Ok(0),
                End::Failed => return Err(Error::other("it does not come")),
                End::Open if stop.load(Ordering::Relaxed) => return Err(Error::other("interrupted")),
                End::Open => {
                    let waited = self.shared.changed.wait_timeout(state, PACE);
                    state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
                }
            }
        }
        let most = usize::try_from(state.0 - self.at).unwrap_or(usize::MAX).min(buffer.len());
        drop(state);
        let length = self.file.read_at(&mut buffer[..most], self.at)?;
        if length == 0 {
            return Err(Error::other("it is shorter than was said"));
        }
        self.at += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file() -> (File, Coming, Follower) {
        let file = File::from(rustix::fs::memfd_create("blob", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        let (to, from) = coming(file.try_clone().unwrap());
        (file, to, from)
    }

    #[test]
    fn what_is_said_to_be_there_is_read_and_no_more() {
        let (mut file, to, mut from) = file();
        let stop = AtomicBool::new(false);
        file.write_all(b"abcdef").unwrap();
        to.grown(4);
        let mut buffer = [0; 9];
        assert_eq!(from.read(&mut buffer, &stop).unwrap(), 4);
        assert_eq!(&buffer[..4], b"abcd");
        to.grown(6);
        assert_eq!(from.read(&mut buffer[..1], &stop).unwrap(), 1);
        to.whole();
        assert_eq!(from.read(&mut buffer, &stop).unwrap(), 1);
        assert_eq!(from.read(&mut buffer, &stop).unwrap(), 0);
        assert!(from.fate().is_whole());
    }

    #[test]
    fn who_reads_waits_for_who_writes() {
        let (mut file, to, mut from) = file();
        let found = std::thread::scope(|scope| {
            let reading = scope.spawn(move || {
                let (stop, mut all, mut buffer) = (AtomicBool::new(false), Vec::new(), [0; 7]);
                loop {
                    match from.read(&mut buffer, &stop).unwrap() {
                        0 => return all,
                        n => all.extend_from_slice(&buffer[..n]),
                    }
                }
            });
            for number in 0..100u8 {
                file.write_all(&[number; 10]).unwrap();
                to.grown(10 * (u64::from(number) + 1));
            }
            to.whole();
            reading.join().unwrap()
        });
        assert_eq!(found, (0..100u8).flat_map(|number| [number; 10]).collect::<Vec<u8>>());
    }

    #[test]
    fn one_that_does_not_come_and_one_that_nobody_wants_any_more_are_errors() {
        let (_file, to, mut from) = file();
        assert!(from.read(&mut [0; 9], &AtomicBool::new(true)).is_err());
        drop(to);
        assert!(from.read(&mut [0; 9], &AtomicBool::new(false)).is_err());
        assert!(from.fate().has_failed());
    }
}
