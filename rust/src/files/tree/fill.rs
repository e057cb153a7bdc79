//! The data of a file as it was announced, or not at all.

use super::Taker;
use crate::error::Result;

/// Data at any ascending offsets, as the regions that were announced. What is in none of them came later, and stays out.
pub struct Fill<'a> {
    pub regions: &'a [(u64, u64)],
    /// How much of the first region is told.
    pub at: u64,
    pub taker: &'a mut dyn Taker,
}

impl Fill<'_> {
    /// False where something before it has not come, and will not.
    pub fn put(&mut self, mut offset: u64, mut data: &[u8]) -> Result<bool> {
        while let Some((start, length)) = self.next_region() {
            let next = start + self.at;
            let skipped = next.saturating_sub(offset).min(data.len() as u64);
            (offset, data) = (offset + skipped, &data[skipped as usize..]);
            if data.is_empty() {
                return Ok(true);
            }
            if offset > next {
                return Ok(false);
            }
            let count = (length - self.at).min(data.len() as u64);
            self.taker.data(&data[..count as usize])?;
            (offset, data, self.at) = (offset + count, &data[count as usize..], self.at + count);
        }
        Ok(true)
    }

    /// The first that is not complete.
    fn next_region(&mut self) -> Option<(u64, u64)> {
        while let Some((_, length)) = self.regions.first().filter(|(_, length)| *length == self.at) {
            self.at -= length;
            self.regions = &self.regions[1..];
        }
        self.regions.first().copied()
    }

    /// Whether all has come.
    pub fn ends_well(mut self) -> bool {
        self.next_region().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tree::Item;

    #[derive(Default)]
    struct Kept(Vec<u8>);

    impl Taker for Kept {
        fn item(&mut self, _: &Item) -> Result<()> {
            Ok(())
        }

        fn data(&mut self, data: &[u8]) -> Result<()> {
            self.0.extend_from_slice(data);
            Ok(())
        }
    }

    /// None where it is not what was announced.
    fn filled(regions: &[(u64, u64)], pieces: &[(u64, &[u8])]) -> Option<Vec<u8>> {
        let mut kept = Kept::default();
        let mut fill = Fill { regions, at: 0, taker: &mut kept };
        let comes = pieces.iter().all(|(offset, data)| fill.put(*offset, data).unwrap());
        (comes && fill.ends_well()).then_some(kept.0)
    }

    #[test]
    fn data_comes_as_it_was_announced_or_not() {
        let some = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(filled(&[(0, 4)], &[(0, b"ab"), (2, b"cd")]), some("abcd"));
        assert_eq!(filled(&[(0, 3)], &[(0, b"abcdef")]), some("abc"), "it has grown");
        assert_eq!(filled(&[(0, 4)], &[(0, b"ab")]), None, "it was cut off");
        assert_eq!(filled(&[(2, 2), (6, 2), (9, 0)], &[(2, b"ab"), (6, b"cd")]), some("abcd"));
        assert_eq!(filled(&[(2, 2), (6, 2)], &[(0, b"01234567")]), some("2367"), "a hole was filled");
        assert_eq!(filled(&[(2, 2), (6, 2)], &[(6, b"67")]), None, "a hole was made");
        assert_eq!(filled(&[], &[(0, b"x")]), some(""));
        assert_eq!(filled(&[(0, 0)], &[]), some(""));
    }
}
