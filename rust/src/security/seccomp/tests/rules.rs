//! Profiles of callers against a plain reading of them.

use proptest::prelude::*;

use super::*;
use crate::error::Error;

#[test]
fn what_cannot_be_compiled_is_refused() {
    let rule = |action, index| Rule {
        names: vec!["read".into()],
        action,
        args: vec![ArgCmp { index, op: Op::Eq, value: 0, value_two: 0 }],
    };
    let refused = |default, rule| compile(Arch::X86_64, &Rules { default, rules: vec![rule] });
    assert!(refused(Action::Allow, rule(Action::Errno(4095), 5)).is_ok());
    assert!(matches!(refused(Action::Allow, rule(Action::Errno(4096), 0)), Err(Error::Value(_))));
    assert!(matches!(refused(Action::Errno(4096), rule(Action::Allow, 0)), Err(Error::Value(_))));
    assert!(matches!(refused(Action::Allow, rule(Action::Trap, 6)), Err(Error::Value(_))));
    let many = (0..5000).map(|value| {
        let args = vec![ArgCmp { index: 0, op: Op::Eq, value, value_two: 0 }];
        Rule { names: vec!["read".into()], action: Action::Trap, args }
    });
    let too_long = compile(Arch::X86_64, &Rules { default: Action::Allow, rules: many.collect() });
    assert!(matches!(too_long, Err(Error::Value(text)) if text.contains("4096")));
}

#[test]
fn unknown_names_are_told_once() {
    let names = ["read", "umount", "bogus", "umount", "fstatat64"].map(String::from).to_vec();
    let rule = Rule { names, action: Action::Allow, args: vec![] };
    let rules = Rules { default: Action::Errno(1), rules: vec![rule.clone(), rule] };
    let (program, ignored) = compile(Arch::X86_64, &rules).expect("compiles");
    assert_eq!(ignored, ["umount", "bogus", "fstatat64"]);
    assert_eq!(ask(&program, Arch::X86_64, "read", &[]), ALLOW);
    assert_eq!(ask(&program, Arch::X86_64, "write", &[]), EPERM);
}

// The plain reading of a profile, as its documentation says it.

fn holds(arg: &ArgCmp, args: &[u64; 6]) -> bool {
    let value = args[usize::from(arg.index)];
    match arg.op {
        Op::Ne => value != arg.value,
        Op::Lt => value < arg.value,
        Op::Le => value <= arg.value,
        Op::Eq => value == arg.value,
        Op::Ge => value >= arg.value,
        Op::Gt => value > arg.value,
        Op::MaskedEq => value & arg.value == arg.value_two & arg.value,
    }
}

fn matches(rule: &Rule, args: &[u64; 6]) -> bool {
    let mut indices: Vec<u8> = rule.args.iter().map(|arg| arg.index).collect();
    indices.sort_unstable();
    match indices.windows(2).any(|pair| pair[0] == pair[1]) {
        true => rule.args.iter().any(|arg| holds(arg, args)),
        false => rule.args.iter().all(|arg| holds(arg, args)),
    }
}

fn plain_answer(rules: &Rules, name: &str, args: &[u64; 6]) -> u32 {
    let named = |rule: &&Rule| rule.action != rules.default && rule.names.iter().any(|known| known == name);
    let mut candidates = rules.rules.iter().filter(named);
    if let Some(rule) = candidates.clone().find(|rule| rule.args.is_empty()) {
        return rule.action.value();
    }
    let order = [Action::KillProcess, Action::KillThread, Action::Trap];
    let rank = |action: Action| match action {
        Action::Errno(_) => 3,
        Action::Log => 4,
        Action::Allow => 5,
        other => order.iter().position(|known| *known == other).expect("listed"),
    };
    let matching = candidates.by_ref().filter(|rule| matches(rule, args));
    matching.min_by_key(|rule| rank(rule.action)).map_or(rules.default, |rule| rule.action).value()
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => Just(Action::Allow),
        4 => (0_u16..=40).prop_map(Action::Errno),
        1 => Just(Action::KillProcess),
        1 => Just(Action::KillThread),
        1 => Just(Action::Trap),
        1 => Just(Action::Log),
    ]
}

fn any_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0_u64..4,
        2 => (0_u64..4).prop_map(|value| value << 32),
        2 => (0_u64..4, 0_u64..4).prop_map(|(high, low)| high << 32 | low),
        1 => Just(u64::from(u32::MAX)),
        1 => Just(u64::MAX),
        1 => any::<u64>(),
    ]
}

fn any_arg() -> impl Strategy<Value = ArgCmp> {
    let op = prop::sample::select(vec![Op::Ne, Op::Lt, Op::Le, Op::Eq, Op::Ge, Op::Gt, Op::MaskedEq]);
    let index = prop_oneof![4 => 0_u8..2, 1 => 2_u8..6];
    (index, op, any_value(), any_value()).prop_map(|(index, op, value, value_two)| ArgCmp {
        index,
        op,
        value,
        value_two,
    })
}

fn any_rules(calls: usize) -> impl Strategy<Value = Rules> {
    let name = (0..calls).prop_map(|at| numbers::TABLE[at * numbers::TABLE.len() / 400].0.to_string());
    let args = prop_oneof![1 => Just(vec![]), 4 => prop::collection::vec(any_arg(), 1..4)];
    let rule = (prop::collection::vec(name, 1..4), any_action(), args).prop_map(|(names, action, args)| Rule {
        names,
        action,
        args,
    });
    (any_action(), prop::collection::vec(rule, 0..calls)).prop_map(|(default, rules)| Rules { default, rules })
}

/// Arguments near the values that the profile compares with.
fn near(rules: &Rules, seed: &[u64; 6], at: usize) -> [u64; 6] {
    let values: Vec<u64> =
        rules.rules.iter().flat_map(|rule| &rule.args).flat_map(|arg| [arg.value, arg.value_two]).collect();
    std::array::from_fn(|index| {
        match (seed[index] % 4, values.get(at.wrapping_add(seed[index] as usize) % values.len().max(1))) {
            (0, Some(value)) => *value,
            (1, Some(value)) => value.wrapping_add(1),
            (2, Some(value)) => value.wrapping_sub(1),
            _ => seed[index],
        }
    })
}

fn agrees(rules: &Rules, seeds: &[[u64; 6]]) {
    for arch in BOTH {
        let Ok((program, _)) = compile(arch, rules) else {
            continue;
        };
        check(&program);
        for row in numbers::TABLE.iter().filter(|row| numbers::number(arch, row.0).is_some()) {
            for (at, seed) in seeds.iter().enumerate() {
                let args = near(rules, seed, at);
                assert_eq!(ask(&program, arch, row.0, &args), plain_answer(rules, row.0, &args), "{} {args:x?}", row.0);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn small_profiles_mean_what_they_say(
        rules in any_rules(8),
        seeds in prop::collection::vec(prop::array::uniform6(any_value()), 8),
    ) {
        agrees(&rules, &seeds);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Long enough for jumps over more than 255 instructions.
    #[test]
    fn long_profiles_mean_what_they_say(
        rules in any_rules(250),
        seeds in prop::collection::vec(prop::array::uniform6(any_value()), 4),
    ) {
        agrees(&rules, &seeds);
    }
}

#[test]
fn a_long_chain_for_one_call_reaches_its_ends() {
    let rule = |value: u64| Rule {
        names: vec!["read".into()],
        action: Action::Errno(u16::try_from(value % 40).expect("small")),
        args: vec![ArgCmp { index: 0, op: Op::Eq, value, value_two: 0 }],
    };
    let rules = Rules { default: Action::Allow, rules: (0..600).map(rule).collect() };
    let (program, _) = compile(Arch::X86_64, &rules).expect("compiles");
    check(&program);
    assert!(program.iter().any(|insn| insn.code == 0x05), "no long jump: the test does not test");
    for value in 0..601 {
        let expected = if value < 600 { Action::Errno((value % 40) as u16).value() } else { ALLOW };
        assert_eq!(ask(&program, Arch::X86_64, "read", &[value]), expected);
    }
}
