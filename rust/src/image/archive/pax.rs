//! PAX records: an extension header's data as values. Pure. What readers could take in two ways is an error.

use super::header::Parsed;

pub const XATTR: &[u8] = b"SCHILY.xattr.";

/// What one local extended header says about the entry after it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse_version: [Option<u64>; 2],
    pub sparse_name: Option<Vec<u8>>,
    pub sparse_size: Option<u64>,
}

pub fn parse(data: &[u8]) -> Parsed<Pax> {
    let mut pax = Pax::default();
    each_record(data, |key, value| take(&mut pax, key, value))?;
    Ok(pax)
}

/// A global header may say what we ignore anyway. Readers disagree on the rest: some apply it, some do not.
pub fn check_global(data: &[u8]) -> Parsed<()> {
    each_record(data, |key, _| {
        let mut seen = Pax::default();
        match take(&mut seen, key, b"0") {
            Ok(()) if seen == Pax::default() => Ok(()),
            _ => Err(format!("a global PAX header sets {}", String::from_utf8_lossy(key))),
        }
    })
}

fn take(pax: &mut Pax, key: &[u8], value: &[u8]) -> Parsed<()> {
    match key {
        b"path" => set(&mut pax.path, key, name(value)?),
        b"linkpath" => set(&mut pax.link, key, name(value)?),
        b"size" => set(&mut pax.size, key, decimal(value)?),
        b"uid" => set(&mut pax.uid, key, decimal(value)?),
        b"gid" => set(&mut pax.gid, key, decimal(value)?),
        b"mtime" => set(&mut pax.mtime, key, time(value)?),
        b"GNU.sparse.major" => set(&mut pax.sparse_version[0], key, decimal(value)?),
        b"GNU.sparse.minor" => set(&mut pax.sparse_version[1], key, decimal(value)?),
        b"GNU.sparse.name" => set(&mut pax.sparse_name, key, name(value)?),
        b"GNU.sparse.realsize" => set(&mut pax.sparse_size, key, decimal(value)?),
        b"SCHILY.realsize" => Err("star's own sparse files are not supported".into()),
        b"hdrcharset" if value != b"BINARY" && value != b"ISO-IR 10646 2000 UTF-8" => {
            Err("an unknown character set of names".into())
        }
        _ if key.starts_with(b"GNU.sparse.") => Err("sparse files of PAX format 0.x are not supported; 1.0 is".into()),
        _ if key.starts_with(XATTR) => {
            pax.xattrs.push((unquote(&key[XATTR.len()..]), value.to_vec()));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A key that comes twice is read as the first by some and as the last by others.
fn set<T>(slot: &mut Option<T>, key: &[u8], value: T) -> Parsed<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("PAX {} comes twice", String::from_utf8_lossy(key))),
    }
}

/// "LENGTH KEY=VALUE\n", LENGTH counting all of it (pax(1), "pax Extended Header").
fn each_record(mut data: &[u8], mut body: impl FnMut(&[u8], &[u8]) -> Parsed<()>) -> Parsed<()> {
    while !data.is_empty() {
        let (record, rest) = split_record(data).ok_or("a malformed PAX record")?;
        let equals =
            record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0).ok_or("a PAX record without a key")?;
        body(&record[..equals], &record[equals + 1..])?;
        data = rest;
    }
    Ok(())
}

/// (KEY=VALUE, what follows)
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = data.iter().take(8).position(|byte| *byte == b' ')?;
    let length = decimal(&data[..space]).ok()? as usize;
    if length > data.len() || length < space + 2 || data[length - 1] != b'\n' {
        return None;
    }
    Some((&data[space + 1..length - 1], &data[length..]))
}

fn name(value: &[u8]) -> Parsed<Vec<u8>> {
    if value.is_empty() || value.contains(&0) {
        return Err("an empty PAX name, or one with a NUL byte".into());
    }
    Ok(value.to_vec())
}

/// Digits only: no sign, no blank, no fraction; within what the kernel takes as an offset.
pub fn decimal(value: &[u8]) -> Parsed<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse::<i64>().ok());
    number.map(|number| number as u64).ok_or_else(|| "a PAX number that is none, or is out of range".into())
}

/// Seconds since 1970, perhaps negative, perhaps with a fraction: (whole seconds, nanoseconds), rounded down.
fn time(value: &[u8]) -> Parsed<(i64, u32)> {
    let (negative, value) = value.strip_prefix(b"-").map_or((false, value), |rest| (true, rest));
    let (whole, fraction) = match value.iter().position(|byte| *byte == b'.') {
        Some(at) => (&value[..at], &value[at + 1..]),
        None => (value, &b""[..]),
    };
    let seconds = decimal(whole)? as i64;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err("a PAX time that is none".into());
    }
    let digit = |i: usize| fraction.get(i).map_or(0, |byte| u32::from(byte - b'0'));
    let nanos = (0..9).fold(0, |value, i| value * 10 + digit(i));
    Ok(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

/// GNU tar writes `=` and `%` in names of attributes as %3D and %25.
fn unquote(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(byte) = rest.first() {
        let (byte, taken) = match rest {
            [b'%', b'3', b'D', ..] => (b'=', 3),
            [b'%', b'2', b'5', ..] => (b'%', 3),
            _ => (*byte, 1),
        };
        out.push(byte);
        rest = &rest[taken..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = 3 + key.len() + value.len();
        let length = (rest..).find(|total| total.to_string().len() + rest == *total).unwrap();
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn known_keys_are_taken() {
        let data = [
            record("path", "a\nb=c".as_bytes()),
            record("size", b"12"),
            record("mtime", b"-1.25"),
            record("SCHILY.xattr.user.a%3Db", b"\0\n"),
            record("comment", b""),
        ];
        let pax = parse(&data.concat()).unwrap();
        assert_eq!(pax.path.unwrap(), b"a\nb=c");
        assert_eq!((pax.size, pax.mtime), (Some(12), Some((-2, 750_000_000))));
        assert_eq!(pax.xattrs, [(b"user.a=b".to_vec(), b"\0\n".to_vec())]);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_an_error() {
        let twice = [record("size", b"1"), record("size", b"2")].concat();
        let bad: [&[u8]; 12] = [
            &twice,
            &record("path", b""),
            &record("path", b"a\0b"),
            &record("size", b"-1"),
            &record("size", b"1.5"),
            &record("size", b"9223372036854775808"),
            &record("GNU.sparse.map", b"0,1"),
            b"8 path=a",
            b"9 path=a\nx",
            b"99999999999999999999 a=b\n",
            b"4 a\n",
            b"5 =b\n",
        ];
        for data in bad {
            assert!(parse(data).is_err(), "{:?}", String::from_utf8_lossy(data));
        }
    }

    #[test]
    fn global_headers_may_only_comment() {
        assert_eq!(check_global(&record("comment", b"a commit")), Ok(()));
        for key in ["path", "size", "mtime", "GNU.sparse.map", "SCHILY.xattr.user.a", "hdrcharset"] {
            assert!(check_global(&record(key, b"1")).is_err(), "{key}");
        }
    }

    proptest! {
        #[test]
        fn no_data_panics(data in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (parse(&data), check_global(&data));
        }

        #[test]
        fn values_come_back_whole(value in prop::collection::vec(1u8.., 1..3000)) {
            prop_assert_eq!(parse(&record("linkpath", &value)).unwrap().link.unwrap(), value);
        }

        #[test]
        fn times_are_rounded_down(seconds in -1_000_000i64..1_000_000, nanos in 0u32..1_000_000_000) {
            let exact = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
            let sign = if exact < 0 { "-" } else { "" };
            let text = format!("{sign}{}.{:09}", exact.abs() / 1_000_000_000, exact.abs() % 1_000_000_000);
            prop_assert_eq!(time(text.as_bytes()).unwrap(), (seconds, nanos));
        }
    }
}
