//! Profiles that a caller writes, with the semantics of OCI runtimes over libseccomp. Names in, program out; no policy.

use std::collections::BTreeMap;

use super::compile::{Answer, Clause, Ranges, Test, Width, assemble};
use super::{Action, Arch, Insn, MAX_INSTRUCTIONS, Op, X32_BIT, numbers};
use crate::error::{Error, Result};

/// The kernel cuts a larger errno to this one (MAX_ERRNO).
const MAX_ERRNO: u16 = 4095;
const ENOSYS: u16 = 38;

/// One comparison of a rule; `value_two` is used by `Op::MaskedEq` only, where `value` is the mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgCmp {
    pub index: u8,
    pub op: Op,
    pub value: u64,
    pub value_two: u64,
}

/// What to do with the calls of these names, if the arguments compare as said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub names: Vec<String>,
    pub action: Action,
    pub args: Vec<ArgCmp>,
}

/// A profile. Several rules may name one call:
///
/// - a rule without arguments wins over those with; of two without, the first wins (libseccomp drops the other ones);
/// - of several rules with arguments that match, the strictest action wins, in the kernel's order of actions
///   (libseccomp leaves this case open);
/// - a rule whose action is the default action has no effect, as in runc.
///
/// All comparisons of one rule must hold; but if two of them look at the same argument, each comparison counts as a
/// rule of its own, as in runc (profiles written for Docker before 2017 mean this).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    pub default: Action,
    pub rules: Vec<Rule>,
}

/// The program for a caller's profile, and the names in it that this architecture does not have, which do nothing.
///
/// Raises `Error::Value` for an argument index above 5, an errno above 4095 and a program that the kernel would refuse.
pub fn compile(arch: Arch, rules: &Rules) -> Result<(Vec<Insn>, Vec<String>)> {
    check_action(rules.default)?;
    let mut calls: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    let mut ignored: Vec<String> = Vec::new();
    for rule in &rules.rules {
        check_rule(rule)?;
        for name in &rule.names {
            match numbers::number(arch, name) {
                Some(number) => calls.entry(number).or_default().push(rule),
                None if !ignored.contains(name) => ignored.push(name.clone()),
                None => {}
            }
        }
    }
    let answers = calls.iter().map(|(number, rules_of_call)| (*number, answer(rules.default, rules_of_call)));
    let ranges = ranges(arch, answers, &Answer::Return(rules.default.value()));
    let program = assemble(arch, &ranges, Action::KillProcess.value());
    if program.len() > MAX_INSTRUCTIONS {
        let length = program.len();
        return Err(Error::Value(format!(
            "seccomp profile: {length} instructions, the kernel takes {MAX_INSTRUCTIONS}"
        )));
    }
    Ok((program, ignored))
}

/// Single numbers with answers, in ascending order, made into ranges; `rest` answers the numbers between them.
pub(super) fn ranges(arch: Arch, answers: impl Iterator<Item = (u32, Answer)>, rest: &Answer) -> Ranges {
    let mut ranges: Ranges = vec![(0, rest.clone())];
    for (number, answer) in answers {
        if ranges.last().is_some_and(|last| last.0 == number) {
            ranges.pop();
        }
        ranges.push((number, answer));
        ranges.push((number + 1, rest.clone()));
    }
    if arch == Arch::X86_64 {
        // Whatever the default is: an x32 number reaches the same code as the native call that the profile denies.
        ranges.push((X32_BIT, Answer::Return(Action::Errno(ENOSYS).value())));
    }
    ranges
}

fn answer(default: Action, rules: &[&Rule]) -> Answer {
    let mut rules: Vec<&Rule> = rules.iter().copied().filter(|rule| rule.action != default).collect();
    if let Some(rule) = rules.iter().find(|rule| rule.args.is_empty()) {
        return Answer::Return(rule.action.value());
    }
    rules.sort_by_key(|rule| rule.action.strictness()); // stable: the order of the profile remains within an action
    let mut clauses: Vec<Clause> = Vec::new();
    for clause in rules.iter().flat_map(|rule| clauses_of(rule)) {
        if !clauses.contains(&clause) {
            clauses.push(clause);
        }
    }
    match clauses.is_empty() {
        true => Answer::Return(default.value()),
        false => Answer::Check(clauses, default.value()),
    }
}

fn clauses_of(rule: &Rule) -> Vec<Clause> {
    let then = rule.action.value();
    let tests = rule.args.iter().map(|arg| Test {
        index: arg.index,
        width: Width::Full,
        op: arg.op,
        value: arg.value,
        value_two: arg.value_two,
    });
    let repeated = (0..6).any(|index| rule.args.iter().filter(|arg| arg.index == index).count() > 1);
    match repeated {
        true => tests.map(|test| Clause { tests: vec![test], then }).collect(),
        false => vec![Clause { tests: tests.collect(), then }],
    }
}

fn check_rule(rule: &Rule) -> Result<()> {
    check_action(rule.action)?;
    match rule.args.iter().find(|arg| arg.index > 5) {
        Some(arg) => Err(Error::Value(format!(
            "seccomp profile: a system call has arguments 0 to 5, not {} ({})",
            arg.index,
            rule.names.join(", ")
        ))),
        None => Ok(()),
    }
}

fn check_action(action: Action) -> Result<()> {
    match action {
        Action::Errno(errno) if errno > MAX_ERRNO => {
            Err(Error::Value(format!("seccomp profile: errno {errno} is above {MAX_ERRNO}")))
        }
        _ => Ok(()),
    }
}
