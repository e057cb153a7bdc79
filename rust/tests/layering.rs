//! The rooms of the house: imports point one way, only `py` names pyo3, unsafe code is in `sys` alone. Reads the sources; runs nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// From which rooms each one may import. `error` and `wire` are leaves that everybody may use.
const MAY_USE: [(&str, &[&str]); 17] = [
    ("lib", &["py"]),
    ("py", &["spawn", "files", "registry", "image", "cgroup", "security", "gate", "runtime"]),
    ("spawn", &["image", "cgroup", "mount", "security", "gate", "locked", "runtime", "removal", "sys"]),
    ("image", &["mount", "security", "gate", "runtime", "files", "sys"]),
    ("registry", &["image", "gate", "sys"]),
    ("cgroup", &["gate", "locked", "sys"]),
    ("mount", &["sys"]),
    ("security", &["sys"]),
    // Of this process: its forks, and the directories that it shares with its user's others.
    ("gate", &["sys"]),
    ("runtime", &["sys"]),
    ("removal", &["sys"]),
    // Files as a stream, on both sides of it; `files` is the host's.
    ("transfer", &["sys"]),
    ("files", &["transfer", "gate", "sys"]),
    ("locked", &[]),
    ("sys", &[]),
    ("error", &[]),
    ("wire", &[]),
];
const LEAVES: [&str; 2] = ["error", "wire"];
/// A leaf is one file; the keeper compiles these too, without the rest of the crate.
const SHARED_WITH_THE_KEEPER: [&str; 4] = ["wire", "sys", "removal", "transfer"];

fn sources(directory: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut found = Vec::new();
    let mut waiting = vec![root];
    while let Some(place) = waiting.pop() {
        for entry in fs::read_dir(&place).expect("the sources can be listed") {
            let path = entry.expect("the sources can be listed").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source can be read");
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

/// The first part of a path below rust/src: its directory, or its file without `.rs`.
fn room_of(path: &Path) -> String {
    let below =
        path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("rust/src")).expect("a source of the crate");
    let first = below.components().next().expect("a file has a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_string()
}

/// The text without comments and without what stands in string literals: words there import nothing.
fn code(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        let mut inside = false;
        let mut before = ' ';
        for letter in line.chars() {
            inside ^= letter == '"' && before != '\\' && before != '\'';
            out.push(if inside { ' ' } else { letter });
            before = letter;
        }
        out.push('\n');
    }
    out
}

/// Rooms after `crate::`, in `use` lines and in the middle of code; also each name of `crate::{a::x, b}`.
fn uses(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with(|before: char| before == '$' || before == '_' || before.is_alphanumeric()) {
            continue; // $crate of a macro stands in whoever uses it
        }
        let rest = &text[at + "crate::".len()..];
        let names = match rest.strip_prefix('{') {
            Some(list) => top_level(list),
            None => vec![rest],
        };
        found.extend(names.into_iter().map(first_word).filter(|word| !word.is_empty()));
    }
    found
}

/// The comma-separated parts of a `{...}` whose opening brace was read; braces within count.
fn top_level(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&list[start..at]);
                return parts;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// Enough `super::` in a row to leave the room. DIR/x.rs is crate::DIR::x, DIR/mod.rs is crate::DIR; a module in a file is one more.
fn climbs_out(path: &Path, text: &str) -> bool {
    let below =
        path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("rust/src")).expect("a source of the crate");
    let opens_module =
        |line: &str| line.trim_start().trim_start_matches("pub ").starts_with("mod ") && line.contains('{');
    let inline = usize::from(text.lines().any(opens_module));
    let depth = below.components().count() - usize::from(below.ends_with("mod.rs")) + inline;
    text.contains(&"super::".repeat(depth))
}

fn words<'a>(text: &'a str, word: &str) -> impl Iterator<Item = &'a str> {
    let word = word.to_string();
    text.lines().filter(move |line| {
        line.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).any(|part| part == word)
    })
}

#[test]
fn imports_point_one_way() {
    for (path, text) in sources("rust/src") {
        let room = room_of(&path);
        let (_, allowed) =
            MAY_USE.iter().find(|(name, _)| *name == room).unwrap_or_else(|| panic!("{room} is no room"));
        for used in uses(&code(&text)) {
            let fine =
                used == room || LEAVES.contains(&used.as_str()) && room != "lib" || allowed.contains(&used.as_str());
            assert!(fine || !is_room(&used), "{}: {room} may not use {used}", path.display());
            assert!(is_room(&used), "{}: crate::{used} is no room", path.display());
        }
        assert!(!climbs_out(&path, &code(&text)), "{}: super:: leaves the room", path.display());
    }
}

fn is_room(name: &str) -> bool {
    MAY_USE.iter().any(|(room, _)| *room == name)
}

#[test]
fn only_py_names_pyo3() {
    for (path, text) in sources("rust/src") {
        let named = words(&code(&text), "pyo3").count() + words(&code(&text), "PyErr").count();
        assert!(named == 0 || ["py", "lib"].contains(&room_of(&path).as_str()), "{} names pyo3", path.display());
    }
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    for (path, text) in sources("rust/src").into_iter().chain(sources("rust/keeper")) {
        let in_sys = path.components().any(|part| part.as_os_str() == "sys");
        let lines: Vec<String> = words(&code(&text), "unsafe").map(str::to_string).collect();
        // An attribute is no block: it names the keeper's entry point for the linker. A macro of `sys` expands to what stands there.
        let lines: Vec<String> = lines.into_iter().filter(|line| !line.contains("#[unsafe(no_mangle)]")).collect();
        assert!(in_sys || lines.is_empty(), "{}: {lines:?}", path.display());
    }
}

#[test]
fn what_the_keeper_shares_needs_nothing_else() {
    for (path, text) in sources("rust/src") {
        let room = room_of(&path);
        if SHARED_WITH_THE_KEEPER.contains(&room.as_str()) {
            let shared = |used: &String| SHARED_WITH_THE_KEEPER.contains(&used.as_str());
            let others: Vec<String> = uses(&code(&text)).into_iter().filter(|used| !shared(used)).collect();
            assert!(others.is_empty(), "{}: {others:?} are not there in the keeper", path.display());
        }
    }
}

/// The control of this file's own reader.
#[test]
fn the_reader_reads() {
    let text =
        "use crate::{sys::{a, b}, wire};\nlet x = crate::mount::list(\"crate::py\"); // crate::cgroup\n$crate::lib!();";
    assert_eq!(uses(&code(text)), BTreeSet::from(["sys", "wire", "mount"].map(String::from)));
    assert_eq!(words(&code("an unsafe { } block\nunsafe_op // unsafe"), "unsafe").count(), 1);
}
