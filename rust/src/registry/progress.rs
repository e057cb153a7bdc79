//! What a transfer has done so far: a row for each blob, which the transferring threads write and the caller reads when it likes.

use crate::image::digest::Digest;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Waiting,
    Transferring,
    Done,
    /// It was there already, or somebody else brought it.
    Present,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Transferring => "transferring",
            State::Done => "done",
            State::Present => "present",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub digest: Digest,
    pub state: State,
    /// Bytes.
    pub done: u64,
    pub total: u64,
}

/// As many rows as the image has blobs, whoever reads them how late.
#[derive(Debug, Default)]
pub struct Board {
    rows: Mutex<Vec<(Row, bool)>>,
}

impl Board {
    fn rows(&self) -> MutexGuard<'_, Vec<(Row, bool)>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, digest: &Digest, state: State, done: u64, total: u64) {
        let mut rows = self.rows();
        let row = Row { digest: digest.clone(), state, done, total };
        match rows.iter_mut().find(|(found, _)| found.digest == *digest) {
            Some(found) => *found = (row, true),
            None => rows.push((row, true)),
        }
    }

    /// The rows that have changed since the last time.
    pub fn changes(&self) -> Vec<Row> {
        let mut rows = self.rows();
        let changed = rows.iter_mut().filter(|(_, is_new)| *is_new);
        changed
            .map(|(row, is_new)| {
                *is_new = false;
                row.clone()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_each_is_read_once() {
        let board = Board::default();
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        board.set(&a, State::Waiting, 0, 9);
        board.set(&a, State::Transferring, 5, 9);
        board.set(&b, State::Present, 1, 1);
        let rows = board.changes();
        assert_eq!(
            rows.iter().map(|row| (row.state, row.done)).collect::<Vec<_>>(),
            [(State::Transferring, 5), (State::Present, 1)]
        );
        assert!(board.changes().is_empty());
        board.set(&a, State::Done, 9, 9);
        assert_eq!(board.changes().len(), 1);
    }
}
