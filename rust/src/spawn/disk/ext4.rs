//! An empty ext4 as bytes at offsets, for a file that reads as zeros elsewhere: so it needs no mkfs, whatever the size. Pure.
//!
//! The format is that of Documentation/filesystems/ext4 of the kernel: blocks of 4 KiB, no journal, no reserved blocks, one copy of
//! the superblock, and groups that the kernel initialises when it first needs them. e2fsck is the oracle of its test.

pub const BLOCK: u64 = 4096;
const GROUP: u64 = 32_768;
const INODE: u64 = 256;
const PER_TABLE_BLOCK: u64 = BLOCK / INODE;
const RESERVED_INODES: u64 = 10;
const ROOT: u64 = 2;
/// Blocks of directories that are there before the container's first file: upper, work, and what the engine makes in them.
const OURS: u64 = 24;
/// Clusters that ext4 keeps for itself at a mount: 2 %, at most this many (ext4_set_resv_clusters).
const KEPT_MOST: u64 = 4096;
/// As mkfs: an inode for 4 KiB in a small file system, for 16 KiB in a large one.
const SMALL: u64 = 16_384;

const INODE_UNINIT: u16 = 1;
const BLOCK_UNINIT: u16 = 2;
const INODE_ZEROED: u16 = 4;

/// The least file system in which `wanted` bytes can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    pub blocks: u64,
    groups: u64,
    inodes_per_group: u64,
    descriptor_blocks: u64,
}

impl Geometry {
    /// None beyond the 16 TiB that 32-bit block numbers reach. `files`: so many inodes more than are usual for that size.
    pub fn of(wanted: u64, files: u64) -> Option<Geometry> {
        let data = wanted.div_ceil(BLOCK).max(1);
        let inodes = (data / 4).max(data.min(SMALL)).max(64) + RESERVED_INODES + files;
        let mut blocks = data;
        loop {
            let geometry = Geometry::with(blocks, inodes);
            let needed = geometry.rounded(data + geometry.overhead() + OURS + 1 + (blocks / 50).min(KEPT_MOST));
            if needed <= blocks {
                return (blocks <= u32::MAX as u64).then_some(geometry);
            }
            blocks = needed;
        }
    }

    fn with(blocks: u64, inodes: u64) -> Geometry {
        let groups = blocks.div_ceil(GROUP);
        let inodes_per_group = inodes.div_ceil(groups).next_multiple_of(PER_TABLE_BLOCK).min(GROUP);
        Geometry { blocks, groups, inodes_per_group, descriptor_blocks: (groups * 32).div_ceil(BLOCK) }
    }

    fn table_blocks(&self) -> u64 {
        self.inodes_per_group / PER_TABLE_BLOCK
    }

    /// Two bitmaps and the table of inodes in each group; the superblock and the descriptors in the first.
    fn overhead(&self) -> u64 {
        1 + self.descriptor_blocks + self.groups * self.of_group()
    }

    fn of_group(&self) -> u64 {
        2 + self.table_blocks()
    }

    /// A last group that has no room for more than its own tables is filled up.
    fn rounded(&self, blocks: u64) -> u64 {
        let least = self.of_group() + 64;
        match blocks % GROUP {
            0 => blocks,
            last if blocks > GROUP && last < least => blocks + least - last,
            _ => blocks,
        }
    }

    fn first_table(&self, group: u64) -> u64 {
        group * GROUP + if group == 0 { 1 + self.descriptor_blocks } else { 0 }
    }

    fn size_of(&self, group: u64) -> u64 {
        (self.blocks - group * GROUP).min(GROUP)
    }

    /// Blocks of a group that are taken from the start; the root directory's own is the last one in the first group.
    fn used(&self, group: u64) -> u64 {
        self.of_group() + if group == 0 { 1 + self.descriptor_blocks + 1 } else { 0 }
    }

    fn root_block(&self) -> u64 {
        self.used(0) - 1
    }
}

/// (offset, bytes) to write into a file of `geometry.blocks` blocks of zeros.
pub fn format(geometry: &Geometry, uuid: [u8; 16]) -> Vec<(u64, Vec<u8>)> {
    let inode_bitmap = geometry.first_table(0) + 1;
    let table = geometry.first_table(0) + 2;
    let mut writes = vec![
        (1024, superblock(geometry, uuid)),
        (BLOCK, descriptors(geometry, uuid)),
        (inode_bitmap * BLOCK, bitmap(RESERVED_INODES, geometry.inodes_per_group)),
        (table * BLOCK + (ROOT - 1) * INODE, root_inode(geometry.root_block())),
        (geometry.root_block() * BLOCK, root_directory()),
    ];
    // Of the others the kernel makes the bitmap itself; of the last one mkfs does not leave it to it either.
    let mut explicit = vec![0, geometry.groups - 1];
    explicit.dedup();
    for group in explicit {
        let bits = bitmap(geometry.used(group), geometry.size_of(group));
        writes.push((geometry.first_table(group) * BLOCK, bits));
    }
    writes
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn put16(bytes: &mut [u8], at: usize, value: u16) {
    put(bytes, at, &value.to_le_bytes());
}

fn put32(bytes: &mut [u8], at: usize, value: u64) {
    put(bytes, at, &(value as u32).to_le_bytes());
}

fn superblock(geometry: &Geometry, uuid: [u8; 16]) -> Vec<u8> {
    const EXT_ATTR_DIR_INDEX_SPARSE_SUPER2: u64 = 0x8 | 0x20 | 0x200;
    const FILETYPE_EXTENTS: u64 = 0x2 | 0x40;
    const LARGE_FILE_HUGE_FILE_GDT_CSUM_DIR_NLINK_EXTRA_ISIZE: u64 = 0x2 | 0x8 | 0x10 | 0x20 | 0x40;
    let mut bytes = vec![0; 1024];
    let inodes = geometry.inodes_per_group * geometry.groups;
    let free = (0..geometry.groups).map(|group| geometry.size_of(group) - geometry.used(group)).sum::<u64>();
    for (at, value) in [
        (0x00, inodes),
        (0x04, geometry.blocks),
        (0x0c, free),
        (0x10, inodes - RESERVED_INODES),
        (0x18, 2), // log2 of the block size, less 10
        (0x1c, 2),
        (0x20, GROUP),
        (0x24, GROUP),
        (0x28, geometry.inodes_per_group),
        (0x4c, 1), // revision: inodes of any size, features
        (0x54, RESERVED_INODES + 1),
        (0x5c, EXT_ATTR_DIR_INDEX_SPARSE_SUPER2),
        (0x60, FILETYPE_EXTENTS),
        (0x64, LARGE_FILE_HUGE_FILE_GDT_CSUM_DIR_NLINK_EXTRA_ISIZE),
        (0x100, 0xc), // by default with user.* attributes and ACLs
        (0x160, 1),   // hashes of names with signed characters
    ] {
        put32(&mut bytes, at, value);
    }
    put16(&mut bytes, 0x36, u16::MAX); // mounts before a check: never
    put16(&mut bytes, 0x38, 0xef53);
    put16(&mut bytes, 0x3a, 1); // clean
    put16(&mut bytes, 0x3c, 2); // on errors: read-only
    put16(&mut bytes, 0x58, INODE as u16);
    put(&mut bytes, 0x68, &uuid);
    put(&mut bytes, 0xec, &uuid); // the seed of directories' hashes
    bytes[0xfc] = 1; // half MD4
    put16(&mut bytes, 0x15c, 32);
    put16(&mut bytes, 0x15e, 32);
    bytes
}

fn descriptors(geometry: &Geometry, uuid: [u8; 16]) -> Vec<u8> {
    let mut all = Vec::with_capacity(geometry.groups as usize * 32);
    for group in 0..geometry.groups {
        let mut bytes = vec![0; 32];
        let first = geometry.first_table(group);
        for (at, value) in [(0, first), (4, first + 1), (8, first + 2)] {
            put32(&mut bytes, at, value);
        }
        let used_inodes = if group == 0 { RESERVED_INODES } else { 0 };
        let middle = group != 0 && group != geometry.groups - 1;
        let flags = INODE_ZEROED | if group == 0 { 0 } else { INODE_UNINIT } | if middle { BLOCK_UNINIT } else { 0 };
        put16(&mut bytes, 12, (geometry.size_of(group) - geometry.used(group)) as u16);
        put16(&mut bytes, 14, (geometry.inodes_per_group - used_inodes) as u16);
        put16(&mut bytes, 16, u16::from(group == 0)); // directories: the root
        put16(&mut bytes, 18, flags);
        put16(&mut bytes, 28, (geometry.inodes_per_group - used_inodes) as u16); // never used
        let checksum = crc16(crc16(crc16(u16::MAX, &uuid), &(group as u32).to_le_bytes()), &bytes[..30]);
        put16(&mut bytes, 30, checksum);
        all.extend_from_slice(&bytes);
    }
    all
}

/// One block with the first `used` bits set, and those beyond `size`, which are nobody's.
fn bitmap(used: u64, size: u64) -> Vec<u8> {
    let mut bytes = vec![0u8; BLOCK as usize];
    for bit in (0..used).chain(size..BLOCK * 8) {
        bytes[bit as usize / 8] |= 1 << (bit % 8);
    }
    bytes
}

fn root_inode(block: u64) -> Vec<u8> {
    const EXTENTS: u64 = 0x8_0000;
    let mut bytes = vec![0; INODE as usize];
    put16(&mut bytes, 0, 0o040_755);
    put32(&mut bytes, 0x04, BLOCK);
    put16(&mut bytes, 0x1a, 2); // links: its own two names
    put32(&mut bytes, 0x1c, BLOCK / 512);
    put32(&mut bytes, 0x20, EXTENTS);
    // An extent tree of depth 0 with one of at most four entries: one block, from block 0 of the directory.
    put16(&mut bytes, 0x28, 0xf30a);
    put16(&mut bytes, 0x2a, 1);
    put16(&mut bytes, 0x2c, 4);
    put16(&mut bytes, 0x38, 1);
    put32(&mut bytes, 0x3c, block);
    put16(&mut bytes, 0x80, 32);
    bytes
}

fn root_directory() -> Vec<u8> {
    const DIRECTORY: u8 = 2;
    let mut bytes = vec![0; BLOCK as usize];
    for (at, length, name) in [(0, 12, "."), (12, BLOCK as u16 - 12, "..")] {
        put32(&mut bytes, at, ROOT);
        put16(&mut bytes, at + 4, length);
        bytes[at + 6] = name.len() as u8;
        bytes[at + 7] = DIRECTORY;
        put(&mut bytes, at + 8, name.as_bytes());
    }
    bytes
}

/// CRC-16 with the polynomial 0x8005, lowest bit first (lib/crc16.c of the kernel).
fn crc16(start: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(start, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xa001 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt;
    use std::process::Command;

    /// What e2fsck, which reads everything and repairs nothing, says against a file system made here.
    fn checked(wanted: u64) -> String {
        checked_with(wanted, 0)
    }

    fn checked_with(wanted: u64, files: u64) -> String {
        let geometry = Geometry::of(wanted, files).expect("it fits");
        let path = std::env::temp_dir().join(format!("pycontainer-ext4-{}-{wanted}-{files}", std::process::id()));
        let file = std::fs::File::create(&path).expect("the temporary directory can be written");
        file.set_len(geometry.blocks * BLOCK).expect("sparse");
        for (at, bytes) in format(&geometry, *b"0123456789abcdef") {
            file.write_all_at(&bytes, at).expect("there is room");
        }
        let run = Command::new("/sbin/e2fsck").args(["-f", "-n"]).arg(&path).output();
        let _ = std::fs::remove_file(&path);
        let run = run.expect("e2fsck: package e2fsprogs");
        let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
        if run.status.success() { String::new() } else { said }
    }

    #[test]
    fn e2fsck_finds_nothing_wrong_at_the_edges() {
        let edges = [1, 4096, 1 << 20, 16 << 20, 120 << 20, 128 << 20, 129 << 20, 1 << 30, 10 << 30, 200 << 30];
        for wanted in edges {
            assert_eq!(checked(wanted), "", "{wanted}");
        }
    }

    #[test]
    fn there_are_inodes_for_many_small_files() {
        for (wanted, files) in [(4096, 1), (1 << 20, 10_000), (200 << 20, 50_000), (1 << 30, 200_000)] {
            let geometry = Geometry::of(wanted, files).expect("it fits");
            assert!(geometry.inodes_per_group * geometry.groups > files, "{geometry:?}");
            assert_eq!(checked_with(wanted, files), "", "{wanted} {files}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn e2fsck_finds_nothing_wrong(wanted in 1u64..3 << 30) {
            prop_assert_eq!(checked(wanted), "");
        }

        #[test]
        fn there_is_room_for_what_was_wanted_and_little_more(wanted in 1u64..1 << 43) {
            let geometry = Geometry::of(wanted, 0).expect("below 16 TiB");
            let free = geometry.blocks - geometry.overhead() - 1 - (geometry.blocks / 50).min(KEPT_MOST);
            let data = wanted.div_ceil(BLOCK);
            prop_assert!(free >= data, "{geometry:?}");
            prop_assert!(free <= data + data / 50 + OURS + 4096, "{geometry:?}");
            prop_assert!(geometry.size_of(geometry.groups - 1) > geometry.used(geometry.groups - 1));
        }
    }

    #[test]
    fn more_than_32_bits_of_blocks_is_refused() {
        assert_eq!(Geometry::of(16 << 40, 0), None);
    }

    #[test]
    fn crc16_is_the_kernel_s() {
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
    }
}
