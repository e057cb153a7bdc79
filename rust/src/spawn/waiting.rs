//! The one way to wait beside a container: look, wait for news, look again; with a deadline, and signals served meanwhile.

use super::run::{FIRST_TICK, Interrupted, LAST_TICK, MILLISECOND};
use crate::error::{Error, Result};
use crate::sys::process::now;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::BorrowedFd;

/// The moment, in nanoseconds of CLOCK_MONOTONIC, that lies so far ahead; never where none was said.
pub fn deadline(seconds: Option<f64>) -> u64 {
    seconds.map_or(u64::MAX, |seconds| now().saturating_add((seconds.max(0.0) * 1e9) as u64))
}

/// Whether one of them is readable (or at its end) within the time. False also where a signal came first.
pub fn readable(fds: &[BorrowedFd<'_>], nanoseconds: u64) -> bool {
    let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    matches!(poll(&mut polled, Some(&Timespec { tv_sec: seconds as i64, tv_nsec: rest as _ })), Ok(1..))
}

/// What `look` finds, None where `until` passes first. `news` waits at most so many nanoseconds, and says whether there may be some; only
/// where there were none is it asked whether a signal's handler has raised: then the wait ends, and nothing else.
pub fn wait<T>(
    until: u64,
    interrupted: Interrupted<'_>,
    mut look: impl FnMut() -> Result<Option<T>>,
    mut news: impl FnMut(u64) -> Result<bool>,
) -> Result<Option<T>> {
    let mut tick = FIRST_TICK * MILLISECOND;
    loop {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        let now = now();
        if now >= until {
            return Ok(None);
        }
        if !news(tick.min(until - now))? {
            tick = (tick * 2).min(LAST_TICK * MILLISECOND);
            if interrupted() {
                return Err(Error::State("the wait was interrupted".into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_first_and_last() {
        let found = wait(0, &mut || false, || Ok(Some(7)), |_| unreachable!());
        assert_eq!(found, Ok(Some(7)));
        assert_eq!(wait::<()>(0, &mut || false, || Ok(None), |_| unreachable!()), Ok(None));
    }

    #[test]
    fn news_are_a_reason_to_look_and_silence_to_ask_for_signals() {
        let (mut looks, mut asked) = (0, 0);
        let found = wait(
            u64::MAX,
            &mut || {
                asked += 1;
                false
            },
            || {
                looks += 1;
                Ok((looks == 4).then_some(looks))
            },
            |_| Ok(true),
        );
        assert_eq!((found, asked), (Ok(Some(4)), 0));
        assert!(wait::<()>(u64::MAX, &mut || true, || Ok(None), |_| Ok(false)).is_err());
    }
}
