//! Maps of files with holes, in GNU's old format and in PAX format 1.0. Pure; the map is bounded before it is kept.

use super::header::{BLOCK, Parsed, unsigned};
use super::pax::decimal;
use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

/// (offset in the file, bytes of data)
pub type Region = (u64, u64);

const REGIONS_MAX: usize = 1 << 18; // 4 MiB of memory

/// The map of a type S entry: four regions in its header, 21 in each block after it.
#[derive(Debug)]
pub struct OldMap {
    regions: Vec<Region>,
    size: u64,
    continues: bool,
}

impl OldMap {
    pub fn new(block: &[u8; BLOCK]) -> Parsed<OldMap> {
        let header = Header::from_byte_slice(block).as_gnu().ok_or("a sparse file without a GNU header")?;
        let size = unsigned("real size", &header.realsize)?;
        let mut map = OldMap { regions: Vec::new(), size, continues: header.isextended[0] != 0 };
        map.take(&header.sparse)?;
        Ok(map)
    }

    pub fn continues(&self) -> bool {
        self.continues
    }

    pub fn extend(&mut self, block: &[u8; BLOCK]) -> Parsed<()> {
        let mut more = GnuExtSparseHeader::new();
        more.as_mut_bytes().copy_from_slice(block);
        self.continues = more.isextended[0] != 0;
        self.take(&more.sparse)
    }

    /// (length of the file, its regions)
    pub fn finish(self) -> (u64, Vec<Region>) {
        (self.size, self.regions)
    }

    fn take(&mut self, sparse: &[GnuSparseHeader]) -> Parsed<()> {
        for each in sparse.iter().filter(|each| each.offset[0] != 0 || each.numbytes[0] != 0) {
            push(&mut self.regions, (unsigned("offset", &each.offset)?, unsigned("length", &each.numbytes)?))?;
        }
        Ok(())
    }
}

fn push(regions: &mut Vec<Region>, region: Region) -> Parsed<()> {
    if regions.len() == REGIONS_MAX {
        return Err("its map of holes is too long".into());
    }
    regions.push(region);
    Ok(())
}

/// The map in front of the data: decimal lines, the first their number, padded to whole blocks.
#[derive(Debug, Default)]
pub struct PaxMap {
    line: Vec<u8>,
    wanted: Option<usize>,
    offset: Option<u64>,
    regions: Vec<Region>,
}

impl PaxMap {
    pub fn is_whole(&self) -> bool {
        self.wanted == Some(self.regions.len())
    }

    pub fn extend(&mut self, block: &[u8; BLOCK]) -> Parsed<()> {
        for byte in block {
            match byte {
                _ if self.is_whole() => break,
                b'\n' => {
                    let number = decimal(&std::mem::take(&mut self.line))?;
                    self.number(number)?;
                }
                _ if self.line.len() == 20 => return Err("a malformed map of holes".into()),
                _ => self.line.push(*byte),
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Vec<Region> {
        self.regions
    }

    fn number(&mut self, number: u64) -> Parsed<()> {
        if self.wanted.is_none() {
            self.wanted = Some(usize::try_from(number).unwrap_or(usize::MAX));
            return if number > REGIONS_MAX as u64 { Err("its map of holes is too long".into()) } else { Ok(()) };
        }
        match self.offset.take() {
            None => self.offset = Some(number),
            Some(offset) => push(&mut self.regions, (offset, number))?,
        }
        Ok(())
    }
}

/// Regions in order, apart from each other, inside the file, and together exactly the data that is stored.
pub fn check(regions: &[Region], size: u64, stored: u64) -> Parsed<()> {
    let (mut end, mut data) = (0u64, 0u64);
    for (offset, length) in regions {
        if *offset < end {
            return Err("regions of data that overlap".into());
        }
        end = offset.checked_add(*length).filter(|end| *end <= size).ok_or("data beyond its end")?;
        data += length; // no overflow: regions are apart and end within `size`
    }
    if data == stored { Ok(()) } else { Err("its map of holes does not fit its data".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blocks(text: &str) -> Vec<[u8; BLOCK]> {
        let mut data = text.as_bytes().to_vec();
        data.resize(data.len().next_multiple_of(BLOCK), 0);
        data.chunks(BLOCK).map(|chunk| chunk.try_into().unwrap()).collect()
    }

    fn read(text: &str) -> Parsed<Vec<Region>> {
        let mut map = PaxMap::default();
        for block in blocks(text) {
            map.extend(&block)?;
        }
        if map.is_whole() { Ok(map.finish()) } else { Err("cut short".into()) }
    }

    #[test]
    fn a_pax_map_is_read_across_blocks() {
        let regions: Vec<Region> = (0..200).map(|i| (i * 4096, 512)).collect();
        let lines: String = regions.iter().map(|(offset, length)| format!("{offset}\n{length}\n")).collect();
        assert_eq!(read(&format!("200\n{lines}")), Ok(regions));
        assert_eq!(read("0\n"), Ok(vec![]));
    }

    #[test]
    fn a_bad_pax_map_is_an_error() {
        for text in ["-1\n", "1\n0\n", "1\n\n\n", "9999999\n", "1\n0\nx\n", "123456789012345678901\n"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn regions_must_fit() {
        assert!(check(&[(0, 5), (10, 5)], 15, 10).is_ok());
        assert!(check(&[(0, 5), (4, 5)], 15, 10).is_err());
        assert!(check(&[(0, 5), (10, 6)], 15, 11).is_err());
        assert!(check(&[(0, 5)], 15, 6).is_err());
        assert!(check(&[(u64::MAX, 2)], u64::MAX, 2).is_err());
    }

    proptest! {
        #[test]
        fn no_map_panics(text in "[0-9\n\0-]{0,1200}", regions in prop::collection::vec(any::<Region>(), 0..20)) {
            let _ = (read(&text), check(&regions, u64::MAX, 3));
        }
    }
}
