//! Whether the kernel keeps what was written for a limit, as its row of `enforced` says. Reads only.

use super::plan::Write;
use super::{Controller, Groups, Guarantee, State, parse};

/// Limits of memory are kept in whole pages, of at most this size.
const PAGE: u64 = 65_536;

impl Groups {
    /// The rows; one whose file holds something else by now is missing. Before the groups are removed.
    pub fn verified(&self) -> Vec<Guarantee> {
        let mut rows = self.held().to_vec();
        for write in &self.writes {
            if let Some(found) = self.other(write) {
                let mut of_limit = rows.iter_mut().filter(|row| row.name == write.limit && row.state != State::Missing);
                of_limit.by_ref().for_each(|row| {
                    let why = format!("{} is {:?}, not {:?}", write.file, found.trim(), write.value);
                    (row.state, row.by, row.why) = (State::Missing, String::new(), why);
                });
            }
        }
        rows
    }

    /// What is in the file, where it is not the value. A file that cannot be read told so when it was written.
    fn other(&self, write: &Write) -> Option<String> {
        let found = self.seat(write.controller)?.1.read(write.file)?;
        let pages = write.controller == Controller::Memory && write.limit != "oom_group";
        (!keeps(&found, &write.value, pages)).then_some(found)
    }
}

/// The kernel shows a value with its units, its defaults and all devices, and cuts it to pages.
fn keeps(found: &str, value: &str, pages: bool) -> bool {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let has_words = |line: &str| {
        let shown: Vec<&str> = line.split_ascii_whitespace().collect();
        value.split_ascii_whitespace().all(|word| shown.contains(&word))
    };
    match (number(found), number(value)) {
        (Some(found), Some(value)) => found <= value && value - found < if pages { PAGE } else { 1 },
        (Some(found), None) if value == "-1" => found > u64::MAX / 4, // version 1's memory has no word for "max"
        _ if found.lines().any(has_words) => true,
        _ => parse::cpu_list(found).is_ok_and(|found| parse::cpu_list(value).is_ok_and(|value| found == value)),
    }
}

#[cfg(test)]
mod tests {
    use super::keeps;

    #[test]
    fn what_the_kernel_makes_of_a_value_is_the_value() {
        for (found, value) in [
            ("67108864\n", "67108864"),
            ("67108864\n", "67109000"),
            ("9223372036854771712\n", "-1"),
            ("-1\n", "-1"),
            ("max\n", "max"),
            ("150000 100000\n", "150000 100000"),
            ("0-1\n", "0-1"),
            ("0-1\n", "0,1"),
            (
                "8:0 rbps=1024 wbps=max riops=max wiops=max\n254:0 rbps=7 wbps=max riops=max wiops=max\n",
                "8:0 rbps=1024",
            ),
            ("8:0 1024\n", "8:0 1024"),
            ("default 100\n", "100"),
        ] {
            assert!(keeps(found, value, true), "{found:?} {value:?}");
        }
    }

    #[test]
    fn what_was_not_written_is_seen() {
        for (found, value) in [
            ("9223372036854771712\n", "67108864"),
            ("67108864\n", "-1"),
            ("max\n", "100"),
            ("-1\n", "50000"),
            ("max 100000\n", "150000 100000"),
            ("0-3\n", "0-1"),
            ("", "8:0 1024"),
            ("8:16 1024\n", "8:0 1024"),
            ("0\n", "1"),
            ("4096\n", "4097"),
            ("100000\n", "1000"),
            ("1000\n", "100000"),
        ] {
            assert!(!keeps(found, value, false), "{found:?} {value:?}");
        }
    }
}
