//! From answers per range of call numbers to classic BPF. Knows no names and no policy, and calls nothing.
//!
//! The program is written from its end to its start, because BPF jumps only forward: whatever a jump aims at is there
//! already, and equal pieces are written once. When it is complete, it is turned round.

use std::collections::HashMap;

use super::{Arch, Insn, Op};

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

/// What the filter says to the calls of one range of numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    Return(u32),
    /// The first clause that holds gives the answer, else the last value does.
    Check(Vec<Clause>, u32),
}

/// All tests hold: answer `then`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Clause {
    pub tests: Vec<Test>,
    pub then: u32,
}

/// One comparison with an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Test {
    pub index: u8,
    pub width: Width,
    pub op: Op,
    pub value: u64,
    pub value_two: u64,
}

/// How much of the 64-bit register counts. The kernel itself looks at 32 bits where the parameter is an int: a filter
/// that compares 64 there can be passed by setting a high bit (CVE-2023-28100).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Width {
    Low,
    Full,
}

/// The answers to all numbers: each entry holds from its number up to the next entry's.
pub(super) type Ranges = Vec<(u32, Answer)>;

/// The complete program: another architecture gets `foreign`, the rest what the ranges say.
pub(super) fn assemble(arch: Arch, ranges: &Ranges, foreign: u32) -> Vec<Insn> {
    let mut writer = Writer::default();
    let tree = writer.tree(&merged(ranges));
    let load = writer.load(OFFSET_NUMBER, tree);
    let killed = writer.answer(&Answer::Return(foreign));
    let test = writer.branch(JEQ, arch.audit(), load, killed);
    writer.load(OFFSET_ARCH, test);
    writer.reversed.reverse();
    writer.reversed
}

/// Neighbours with equal answers are one range: the tree's depth is the logarithm of what is left.
fn merged(ranges: &Ranges) -> Vec<(u32, &Answer)> {
    let mut merged: Vec<(u32, &Answer)> = Vec::with_capacity(ranges.len());
    for (start, answer) in ranges {
        if merged.last().is_none_or(|last| last.1 != answer) {
            merged.push((*start, answer));
        }
    }
    merged
}

/// A place in the program: how many instructions stood there, counted from the end, once its first one was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    at: usize,
    /// The place starts by loading this offset; who has it in the accumulator already enters at the second field.
    loads: Option<(u32, usize)>,
}

#[derive(Default)]
struct Writer {
    reversed: Vec<Insn>,
    answers: HashMap<Answer, Place>,
    /// The nearest stepping stone to a place that short jumps cannot reach.
    stones: HashMap<usize, usize>,
}

impl Writer {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Place {
        self.reversed.push(Insn { code, jt, jf, k });
        Place { at: self.reversed.len(), loads: None }
    }

    /// A balanced tree over the ranges: the lower half follows its node, the upper half is jumped to.
    fn tree(&mut self, ranges: &[(u32, &Answer)]) -> Place {
        match ranges {
            [] => unreachable!("ranges cover all numbers"),
            [(_, answer)] => self.answer(answer),
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let upper = self.tree(high);
                let lower = self.tree(low);
                self.branch(JGE, high[0].0, upper, lower)
            }
        }
    }

    fn answer(&mut self, answer: &Answer) -> Place {
        if let Some(place) = self.answers.get(answer) {
            return *place;
        }
        let place = match answer {
            Answer::Return(value) => self.push(RETURN, 0, 0, *value),
            Answer::Check(clauses, otherwise) => self.check(clauses, *otherwise),
        };
        self.answers.insert(answer.clone(), place);
        place
    }

    fn check(&mut self, clauses: &[Clause], otherwise: u32) -> Place {
        let mut next = self.answer(&Answer::Return(otherwise));
        for clause in clauses.iter().rev() {
            let mut holds = self.answer(&Answer::Return(clause.then));
            for test in clause.tests.iter().rev() {
                holds = self.test(test, holds, next);
            }
            next = holds;
        }
        next
    }

    fn test(&mut self, test: &Test, yes: Place, no: Place) -> Place {
        let split = |value: u64| ((value >> 32) as u32, value as u32);
        let (value, two) = (split(test.value), split(test.value_two));
        let offset = OFFSET_ARGUMENTS + 8 * u32::from(test.index);
        if test.width == Width::Low {
            return self.compare_low(test.op, offset, value.1, two.1, yes, no);
        }
        let low = self.compare_low(test.op, offset, value.1, two.1, yes, no);
        let high = offset + 4; // both architectures are little-endian
        match test.op {
            Op::Eq => self.compare(high, None, JEQ, value.0, low, no),
            Op::Ne => self.compare(high, None, JEQ, value.0, low, yes),
            Op::MaskedEq if value.0 == 0 => low,
            Op::MaskedEq => self.compare(high, Some(value.0), JEQ, two.0 & value.0, low, no),
            Op::Gt | Op::Ge => self.compare_high(high, value.0, low, yes, no),
            Op::Lt | Op::Le => self.compare_high(high, value.0, low, no, yes),
        }
    }

    fn compare_low(&mut self, op: Op, offset: u32, value: u32, two: u32, yes: Place, no: Place) -> Place {
        match op {
            Op::Eq => self.compare(offset, None, JEQ, value, yes, no),
            Op::Ne => self.compare(offset, None, JEQ, value, no, yes),
            Op::Ge => self.compare(offset, None, JGE, value, yes, no),
            Op::Lt => self.compare(offset, None, JGE, value, no, yes),
            Op::Gt => self.compare(offset, None, JGT, value, yes, no),
            Op::Le => self.compare(offset, None, JGT, value, no, yes),
            Op::MaskedEq => self.compare(offset, Some(value), JEQ, two & value, yes, no),
        }
    }

    /// The high half decides unless it is equal: then the low half does.
    fn compare_high(&mut self, offset: u32, value: u32, low: Place, greater: Place, less: Place) -> Place {
        let equal = self.branch(JEQ, value, low, less);
        let place = self.branch(JGT, value, greater, equal);
        self.load(offset, place)
    }

    fn compare(&mut self, offset: u32, mask: Option<u32>, op: u16, value: u32, yes: Place, no: Place) -> Place {
        let Some(mask) = mask else {
            // The accumulator still holds the argument: a chain of comparisons loads it once.
            let place = self.branch(op, value, after_load(yes, offset), after_load(no, offset));
            return self.load(offset, place);
        };
        self.branch(op, value, yes, no);
        let place = self.push(AND, 0, 0, mask);
        self.load(offset, place)
    }

    /// Falls into `then`, which is always the piece written last.
    fn load(&mut self, offset: u32, then: Place) -> Place {
        let entered = self.distance(then);
        debug_assert_eq!(entered, 0, "a load falls through");
        let place = self.push(LOAD, 0, 0, offset);
        Place { loads: Some((offset, then.at)), ..place }
    }

    fn branch(&mut self, op: u16, value: u32, yes: Place, no: Place) -> Place {
        if yes.at == no.at {
            return self.goto(yes);
        }
        // A stepping stone for one side moves the other side one further away: look again until both are near.
        loop {
            let (yes, no) = (self.nearest(yes.at), self.nearest(no.at));
            match (u8::try_from(self.reversed.len() - yes), u8::try_from(self.reversed.len() - no)) {
                (Ok(jt), Ok(jf)) => return self.push(op, jt, jf, value),
                (Err(_), _) => self.stone(yes),
                (_, Err(_)) => self.stone(no),
            }
        }
    }

    fn goto(&mut self, place: Place) -> Place {
        match self.distance(place) {
            0 => Place { at: place.at, loads: None },
            distance => self.push(JUMP, 0, 0, distance),
        }
    }

    fn distance(&self, place: Place) -> u32 {
        u32::try_from(self.reversed.len() - place.at).expect("a program is short")
    }

    fn nearest(&self, place: usize) -> usize {
        let near = self.stones.get(&place);
        near.map_or(place, |stone| self.nearest(*stone))
    }

    /// A copy of the target's first instruction if it is a return, else a long jump to it.
    fn stone(&mut self, place: usize) {
        let target = self.reversed[place - 1];
        let distance = u32::try_from(self.reversed.len() - place).expect("a program is short");
        let stone =
            if target.code == RETURN { self.push(RETURN, 0, 0, target.k) } else { self.push(JUMP, 0, 0, distance) };
        self.stones.insert(place, stone.at);
    }
}

fn after_load(place: Place, offset: u32) -> Place {
    match place.loads {
        Some((loaded, at)) if loaded == offset => Place { at, loads: None },
        _ => place,
    }
}
