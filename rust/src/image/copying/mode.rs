//! What --chmod makes of a mode: octal digits, or chmod(1)'s words without a umask. Pure.

use crate::error::{Error, Result};

/// As it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Absolute(u32),
    Steps(Vec<Step>),
}

/// One sign and what stands after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    who: String,
    sign: char,
    what: String,
}

impl Change {
    pub fn parse(text: &str) -> Result<Change> {
        let bad = || Error::Value(format!("{text:?} is no mode: as in 755, or u=rwX,go-w"));
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return mode.map(Change::Absolute).ok_or_else(bad);
        }
        let mut steps = Vec::new();
        for part in text.split(',') {
            let (who, mut rest) = part.split_at(part.find(|c| !"ugoa".contains(c)).unwrap_or(part.len()));
            if rest.is_empty() {
                return Err(bad());
            }
            while let Some(sign) = rest.chars().next() {
                let end = rest[sign.len_utf8()..].find(['-', '+', '=']).map_or(rest.len(), |at| at + sign.len_utf8());
                let what = &rest[sign.len_utf8()..end];
                let copies = matches!(what, "u" | "g" | "o");
                if !"+-=".contains(sign) || !copies && !what.chars().all(|c| "rwxXst".contains(c)) {
                    return Err(bad());
                }
                let who = if who.is_empty() { "a" } else { who };
                steps.push(Step { who: who.into(), sign, what: what.into() });
                rest = &rest[end..];
            }
        }
        Ok(Change::Steps(steps))
    }

    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Change::Absolute(mode) => *mode,
            Change::Steps(steps) => steps.iter().fold(mode & 0o7777, |mode, step| step.apply(mode, is_directory)),
        }
    }
}

impl Step {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let scope = self.who.chars().fold(0, |scope, who| {
            scope
                | match who {
                    'u' => 0o4700,
                    'g' => 0o2070,
                    'o' => 0o1007,
                    _ => 0o7777,
                }
        });
        let scope = if self.what.contains('t') { scope | 0o1000 } else { scope };
        let bits = self.what.chars().fold(0, |bits, what| {
            bits | match what {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_directory || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                'u' => (mode >> 6 & 7) * 0o111,
                'g' => (mode >> 3 & 7) * 0o111,
                'o' => (mode & 7) * 0o111,
                _ => 0,
            }
        });
        match self.sign {
            '+' => mode | bits & scope,
            '-' => mode & !(bits & scope),
            _ => mode & !scope | bits & scope,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_changed_as_chmod_does() {
        for (text, mode, is_directory, expected) in [
            ("755", 0o644, false, 0o755),
            ("4755", 0, false, 0o4755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g=u", 0o740, false, 0o770),
            ("u+s,+t", 0o755, false, 0o5755),
            ("o-rwx+r", 0o777, false, 0o774),
            ("u=", 0o755, false, 0o055),
        ] {
            assert_eq!(Change::parse(text).unwrap().apply(mode, is_directory), expected, "{text}");
        }
        for bad in ["", "8", "77777", "u", "u+q", "rwx", "u=rw,", "ä=r", "u=gr", "+ü"] {
            assert!(Change::parse(bad).is_err(), "{bad}");
        }
    }
}
