//! What a command beside the first one has to know of its container's plan, in this process or, as bytes, in another one.

use super::run::Live;
use crate::cgroup::SEATS;
use crate::mount::layout::Facts;
use crate::security::maps::{Line, Lines, Maps};
use crate::wire::{Head, Reader, Write};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    pub head: Head,
    pub ids: Maps,
    pub one_id: bool,
    pub rootless: bool,
    /// Where an rlimit is the bound on tasks.
    pub one_id_pids: Option<u64>,
    pub upper_in_memory: bool,
    pub copied: bool,
    pub served: bool,
    /// Where its groups are, as `cgroup::Found` takes it.
    pub seats: [u8; SEATS],
}

impl Basis {
    pub(super) fn of(live: &Live) -> Basis {
        let (engine, spec) = (&live.engine, &live.spec);
        let ids = live.prepared.ids(live.range.as_ref());
        Basis {
            head: live.prepared.head(engine, spec, live.id, 0, &ids),
            ids,
            one_id: engine.facts.one_id,
            rootless: !engine.is_root(),
            one_id_pids: live.prepared.one_id_pids(engine, spec),
            upper_in_memory: !live.prepared.upper_is_on_disk(),
            copied: live.prepared.copied().is_some(),
            served: live.prepared.served(),
            seats: engine.place.seats(),
        }
    }

    /// As far as errors of a command are explained by it.
    pub fn facts(&self) -> Facts {
        Facts { rootless: self.rootless, one_id: self.one_id, user_namespace: true, ..Facts::default() }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        self.head.write(&mut out);
        for lines in [&self.ids.uid, &self.ids.gid] {
            out.put_u32(lines.len() as u32);
            for line in lines {
                [line.inside, line.outside, line.count].into_iter().for_each(|number| out.put_u32(number));
            }
        }
        let facts = [self.one_id, self.rootless, self.upper_in_memory, self.copied, self.served];
        for is in facts.into_iter().chain([self.one_id_pids.is_some()]) {
            out.put_u8(u8::from(is));
        }
        out.put_u64(self.one_id_pids.unwrap_or_default());
        self.seats.into_iter().for_each(|seat| out.put_u8(seat));
        out
    }

    /// None of what `encode` has not written.
    pub fn decode(bytes: &[u8]) -> Option<Basis> {
        let mut from = Reader::new(bytes);
        let head = Head::read(&mut from)?;
        let ids = Maps { uid: lines(&mut from)?, gid: lines(&mut from)? };
        let mut is = || from.u8().map(|is| is != 0);
        let (one_id, rootless, upper_in_memory) = (is()?, is()?, is()?);
        let (copied, served, bounded) = (is()?, is()?, is()?);
        let one_id_pids = Some(from.u64()?).filter(|_| bounded);
        let seats = from.take(SEATS)?.try_into().ok()?;
        let whole = from.is_empty();
        whole.then_some(Basis { head, ids, one_id, rootless, one_id_pids, upper_in_memory, copied, served, seats })
    }
}

fn lines(from: &mut Reader<'_>) -> Option<Lines> {
    (0..from.u32()?).map(|_| Some(Line::new(from.u32()?, from.u32()?, from.u32()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_reads_what_this_one_wrote() {
        let maps =
            Maps { uid: vec![Line::new(0, 1000, 1), Line::new(1, 100_000, 65_535)], gid: vec![Line::new(0, 7, 1)] };
        let basis = Basis {
            head: Head { id: 3, flags: 5, clone_flags: 1 << 40, ..Head::default() },
            ids: maps,
            one_id: false,
            rootless: true,
            one_id_pids: Some(64),
            upper_in_memory: true,
            copied: false,
            served: true,
            seats: std::array::from_fn(|seat| seat as u8),
        };
        let bytes = basis.encode();
        assert_eq!(Basis::decode(&bytes), Some(basis));
        for length in 0..bytes.len() {
            assert_eq!(Basis::decode(&bytes[..length]), None);
        }
        assert_eq!(Basis::decode(&[bytes, vec![0]].concat()), None);
    }
}
