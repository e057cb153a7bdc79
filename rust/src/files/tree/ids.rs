//! Ids as a container numbers them. Pure.

use super::Ids;

/// None is the host's own ids; one that is in no line is nobody's.
pub fn inside(ids: &Ids, id: u32) -> u32 {
    let line = ids.iter().find(|(_, outside, count)| *outside <= id && id - outside < *count);
    match line {
        Some((inside, outside, _)) => inside + (id - outside),
        None if ids.is_empty() => id,
        None => 65534,
    }
}

/// The kernel adds whose root may use them (vfs_ns_cap_data); in an image they are the root's of whoever runs it.
pub fn capability(value: &[u8], ids: &Ids) -> Vec<u8> {
    const REVISION: u32 = 0xff00_0000;
    let word = |at: usize| value.get(at..at + 4).and_then(|word| Some(u32::from_le_bytes(word.try_into().ok()?)));
    match (word(0), word(20)) {
        (Some(magic), Some(root)) if magic & REVISION == 0x0300_0000 && value.len() == 24 && inside(ids, root) == 0 => {
            [&(magic & !REVISION | 0x0200_0000).to_le_bytes()[..], &value[4..20]].concat()
        }
        _ => value.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_inside() {
        let ids = vec![(0, 1000, 1), (1, 100_000, 10)];
        assert_eq!([1000, 100_009, 5].map(|id| inside(&ids, id)), [0, 10, 65534]);
        assert_eq!(inside(&Ids::new(), 5), 5);
    }

    #[test]
    fn capabilities_of_the_containers_root_are_any_roots() {
        let bits = [1u8; 16];
        let with_root = |root: u32| [&0x0300_0001u32.to_le_bytes()[..], &bits, &root.to_le_bytes()].concat();
        let plain = [&0x0200_0001u32.to_le_bytes()[..], &bits].concat();
        let ids = vec![(0, 7000, 10)];
        assert_eq!(capability(&with_root(7000), &ids), plain);
        assert_eq!(capability(&with_root(7001), &ids), with_root(7001));
        assert_eq!(capability(&plain, &ids), plain);
        assert_eq!(capability(b"x", &ids), b"x");
    }
}
