//! One 512-byte block as a tar header: its kind, names and numbers, read in one way only. Pure; knows no tree and no file.

use tar::Header;

pub const BLOCK: usize = 512;

/// What is wrong, in words; the caller adds the entry and the archive.
pub type Parsed<T> = std::result::Result<T, String>;

/// A header block as it stands; extension headers have not been applied to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub kind: u8,
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub mtime: i64,
    pub device: (u32, u32),
    pub is_gnu: bool,
}

pub fn parse(block: &[u8; BLOCK]) -> Parsed<Head> {
    let header = Header::from_byte_slice(block);
    let old = header.as_old();
    if unsigned("checksum", &old.cksum)? != checksum(block) {
        return Err("the header's checksum is wrong".into());
    }
    let mut head = Head {
        kind: old.linkflag[0],
        name: until_nul(&old.name).to_vec(),
        link: until_nul(&old.linkname).to_vec(),
        mode: (unsigned("mode", &old.mode)? & 0o7777) as u32,
        uid: unsigned("uid", &old.uid)?,
        gid: unsigned("gid", &old.gid)?,
        size: unsigned("size", &old.size)?,
        mtime: number("mtime", &old.mtime)?,
        device: (0, 0),
        is_gnu: header.as_gnu().is_some(),
    };
    let magic = &block[257..263];
    if let Some(ustar) = header.as_ustar() {
        if &block[508..512] == b"tar\0" {
            return Err("star's own header format is not supported".into());
        }
        let prefix = until_nul(&ustar.prefix);
        if !prefix.is_empty() {
            head.name = [prefix, b"/", &head.name].concat();
        }
    } else if !head.is_gnu && magic != [0; 6] {
        // Readers disagree on a ustar magic with another version: some take the prefix field, some do not.
        return Err("neither a ustar, a GNU nor a v7 header".into());
    }
    if matches!(head.kind, b'3' | b'4') {
        let field = |name, range: std::ops::Range<usize>| {
            u32::try_from(unsigned(name, &block[range])?).map_err(|_| format!("{name} is out of range"))
        };
        head.device = (field("device major", 329..337)?, field("device minor", 337..345)?);
    }
    Ok(head)
}

/// The sum of all bytes, with the checksum itself taken as spaces (pax(1), "ustar Interchange Format").
fn checksum(block: &[u8; BLOCK]) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    sum(&block[..148]) + 8 * u64::from(b' ') + sum(&block[156..])
}

pub fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

pub fn unsigned(name: &str, field: &[u8]) -> Parsed<u64> {
    u64::try_from(number(name, field)?).map_err(|_| format!("{name} is negative"))
}

/// Octal digits between blanks, or GNU's base-256: two's complement without the first bit.
fn number(name: &str, field: &[u8]) -> Parsed<i64> {
    if field[0] & 0x80 != 0 {
        let sign = if field[0] & 0x40 != 0 { -1i128 << 7 } else { 0 };
        let first = sign | i128::from(field[0] & 0x7f);
        let value = field[1..].iter().fold(first, |value, byte| value << 8 | i128::from(*byte));
        return i64::try_from(value).map_err(|_| format!("{name} is out of range"));
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let digits = field[start..].split(blank).next().unwrap_or_default();
    let rest = &field[start + digits.len()..];
    if !digits.iter().all(|byte| matches!(byte, b'0'..=b'7')) || !rest.iter().all(blank) {
        return Err(format!("{name} is not a number"));
    }
    Ok(digits.iter().fold(0, |value, digit| value << 3 | i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn octal_is_read_between_blanks_only() {
        for (field, expected) in [
            (&b"0000644\0"[..], Ok(0o644)),
            (b"   644 \0", Ok(0o644)),
            (b"77777777", Ok(0o77777777)),
            (b"\0\0\0\0\0\0\0\0", Ok(0)),
            (b"        ", Ok(0)),
            (b"0000648\0", Err("size is not a number".to_string())),
            (b"-000001\0", Err("size is not a number".to_string())),
            (b"12\0junk\0", Err("size is not a number".to_string())),
        ] {
            assert_eq!(unsigned("size", field), expected, "{field:?}");
        }
    }

    #[test]
    fn base_256_is_twos_complement() {
        let mut field = [0xff; 12];
        assert_eq!(number("mtime", &field), Ok(-1));
        assert_eq!(unsigned("size", &field), Err("size is negative".into()));
        field = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2];
        assert_eq!(unsigned("size", &field), Ok(258));
        field[1] = 1;
        assert_eq!(unsigned("size", &field), Err("size is out of range".into()));
        assert!(number("size", &[0xc0; 12]).is_err());
    }

    #[test]
    fn magic_decides_on_the_prefix() {
        let mut header = Header::new_ustar();
        header.as_ustar_mut().unwrap().prefix[..3].copy_from_slice(b"dir");
        header.as_ustar_mut().unwrap().name[..4].copy_from_slice(b"file");
        header.set_cksum();
        assert_eq!(parse(header.as_bytes()).unwrap().name, b"dir/file");
        header.as_ustar_mut().unwrap().version = [0, 0];
        header.set_cksum();
        assert!(parse(header.as_bytes()).unwrap_err().contains("neither"));
    }

    proptest! {
        #[test]
        fn no_block_panics(block in prop::collection::vec(any::<u8>(), BLOCK)) {
            let mut block: [u8; BLOCK] = block.try_into().unwrap();
            let sum = format!("{:06o}\0 ", checksum(&block));
            block[148..156].copy_from_slice(sum.as_bytes());
            let _ = parse(&block);
        }

        #[test]
        fn what_the_tar_crate_writes_is_what_is_read(
            size in 0u64..1 << 62, uid in 0u64..1 << 31, mtime in 0u64..1 << 40, mode in 0u32..0o10000, name in "[a-z/]{1,90}",
        ) {
            let mut header = Header::new_gnu();
            header.set_size(size);
            header.set_uid(uid);
            header.set_mtime(mtime);
            header.set_mode(mode);
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            let head = parse(header.as_bytes()).unwrap();
            prop_assert_eq!((head.size, head.uid, head.mtime, head.mode), (size, uid, mtime as i64, mode));
            prop_assert_eq!(head.name, name.as_bytes());
        }
    }
}
