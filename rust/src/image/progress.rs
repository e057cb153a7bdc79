//! What long work on images tells of itself: the newest word of each blob, for whoever looks. Calls nobody.

use std::sync::Mutex;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// "waiting", "downloading", "unpacking", "uploading", "loading", "done", "there": it was there before.
    pub state: &'static str,
    /// A digest, or a file.
    pub what: String,
    pub done: u64,
    /// 0: not known.
    pub total: u64,
}

/// Bounded by the number of things that it is about: a newer word of the same one replaces the older.
#[derive(Debug, Default)]
pub struct Queue(Mutex<Vec<Event>>);

impl Queue {
    pub fn put(&self, state: &'static str, what: &str, done: u64, total: u64) {
        let mut events = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let event = Event { state, what: what.into(), done, total };
        match events.iter_mut().rfind(|before| before.what == what && before.state == state) {
            Some(before) => *before = event,
            None => events.push(event),
        }
    }

    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_word_of_each_is_kept() {
        let queue = Queue::default();
        queue.put("downloading", "a", 1, 9);
        queue.put("downloading", "b", 1, 9);
        queue.put("downloading", "a", 2, 9);
        queue.put("done", "a", 9, 9);
        let seen: Vec<_> = queue.take().into_iter().map(|event| (event.state, event.what, event.done)).collect();
        assert_eq!(seen, [("downloading", "a".into(), 2), ("downloading", "b".into(), 1), ("done", "a".into(), 9)]);
        assert!(queue.take().is_empty());
    }
}
