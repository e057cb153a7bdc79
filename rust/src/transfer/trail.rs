//! Where a walk is, as text for whoever is told. Nothing is resolved by it.

use core::ffi::CStr;

const MAX: usize = 4096;

/// Names from the top to here; of one that is longer than a path can be, the beginning.
pub struct Trail {
    text: [u8; MAX],
    used: usize,
    /// Names that found no room.
    hidden: usize,
}

impl Default for Trail {
    fn default() -> Trail {
        Trail { text: [0; MAX], used: 0, hidden: 0 }
    }
}

impl Trail {
    pub fn text(&self) -> &[u8] {
        &self.text[..self.used]
    }

    /// The empty name of the top leaves no trace.
    pub fn push(&mut self, name: &CStr) {
        let name = name.to_bytes();
        let start = self.used + usize::from(self.used > 0);
        if name.is_empty() {
            return;
        }
        if self.hidden > 0 || start + name.len() > MAX {
            self.hidden += 1;
            return;
        }
        if self.used > 0 {
            self.text[self.used] = b'/';
        }
        self.text[start..start + name.len()].copy_from_slice(name);
        self.used = start + name.len();
    }

    pub fn pop(&mut self) {
        match self.hidden.checked_sub(1) {
            Some(hidden) => self.hidden = hidden,
            None => self.used = self.text().iter().rposition(|byte| *byte == b'/').unwrap_or(0),
        }
    }

    pub fn copy_from(&mut self, other: &Trail) {
        self.text[..other.used].copy_from_slice(other.text());
        self.used = other.used;
        self.hidden = 0;
    }
}
