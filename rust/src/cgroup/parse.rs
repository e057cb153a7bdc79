//! Texts of the kernel into values: mountinfo, /proc/PID/cgroup, counters, pressure, cpu lists. Pure: touches no file.

use std::collections::BTreeSet;

use super::Version;

/// A mounted cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Which group of the hierarchy the mount shows as its top; not "/" inside a container without a cgroup namespace.
    pub(super) root: String,
    pub(super) point: String,
    pub(super) version: Version,
    /// Super block options: for version 1 the controllers are among them.
    pub(super) options: Vec<String>,
}

/// The cgroup mounts in the text of /proc/PID/mountinfo, proc_pid_mountinfo(5). Lines that do not parse are left out.
pub(super) fn mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (unescape(left.next()?), unescape(left.next()?));
    let mut right = right.split(' ');
    let version = match right.next()? {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let options = right.nth(1).unwrap_or("").split(',').map(str::to_owned).collect();
    Some(Mount { root, point, version, options })
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| byte == b'\\').and_then(octal_byte);
        bytes.push(octal.unwrap_or(byte));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn octal_byte(digits: &[u8]) -> Option<u8> {
    let value =
        digits.iter().try_fold(0u32, |sum, d| (b'0'..=b'7').contains(d).then(|| sum * 8 + u32::from(d - b'0')))?;
    u8::try_from(value).ok()
}

/// One line of /proc/PID/cgroup. No controllers is the unified hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) controllers: Vec<String>,
    pub(super) path: String,
}

pub(super) fn memberships(text: &str) -> Vec<Membership> {
    let line = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Some(Membership { controllers, path: fields.next()?.to_owned() })
    };
    text.lines().filter_map(line).collect()
}

/// Where group `path` lies below a mount that shows `root`: a relative path, or None if the mount does not show it.
/// Both are relative to the reader's cgroup namespace; what lies outside of it begins with "/..", and has no name here.
pub(super) fn below<'a>(root: &str, path: &'a str) -> Option<&'a str> {
    if [root, path].iter().any(|p| p.split('/').any(|part| part == "..")) {
        return None;
    }
    let rest = path.strip_prefix(root.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_matches('/'))
}

/// The value after `key` in a file of "key value" lines: cpu.stat, memory.events, memory.oom_control, pids.events.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// Bytes read and written, summed over the devices of an io.stat.
pub(super) fn io_bytes(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let fields = text.split_ascii_whitespace();
        fields.filter_map(|f| f.strip_prefix(key)?.parse::<u64>().ok()).fold(0u64, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

/// Stalled seconds of the line `kind` ("some" or "full") of a pressure file, whose total= is in microseconds.
pub(super) fn stalled(text: &str, kind: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
    let total: u64 = line.split_ascii_whitespace().find_map(|f| f.strip_prefix("total="))?.parse().ok()?;
    Some(total as f64 / 1e6)
}

/// No kernel is built for more processors (CONFIG_NR_CPUS); it also keeps a list such as 0-4294967295 from filling memory.
const MOST_CPUS: u32 = 8192;

/// A list as in cpuset(7), "0-3,8"; the error says which part is wrong. The empty text is the empty set.
pub(super) fn cpu_list(text: &str) -> Result<BTreeSet<u32>, String> {
    let mut set = BTreeSet::new();
    for part in text.trim().split(',').filter(|_| !text.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (cpu_number(first, part)?, cpu_number(last, part)?);
        if first > last {
            return Err(format!("{part:?} runs backwards"));
        }
        set.extend(first..=last);
    }
    Ok(set)
}

fn cpu_number(digits: &str, part: &str) -> Result<u32, String> {
    let digits = digits.trim();
    let number = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
    match number {
        Some(number) if number < MOST_CPUS => Ok(number),
        Some(_) => Err(format!("{part:?} is beyond every machine ({MOST_CPUS} processors)")),
        None => Err(format!("{part:?} is neither a number nor a range")),
    }
}

/// The shortest list of a set: the inverse of `cpu_list`.
pub(super) fn cpu_text(set: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &cpu in set {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => runs.push((cpu, cpu)),
        }
    }
    let run = |&(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    runs.iter().map(run).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mountinfo_of_a_hybrid_machine() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                    32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct\n\
                    41 31 0:38 /docker/a\\040b /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = mounts(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].version, found[0].point.as_str()), (Version::V1, "/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(found[0].options, ["rw", "cpu", "cpuacct"]);
        assert_eq!((found[1].version, found[1].root.as_str()), (Version::V2, "/docker/a b"));
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape("a\\040b\\011c\\134d"), "a b\tc\\d");
        assert_eq!(unescape("\\04"), "\\04");
        assert_eq!(unescape("\\777x"), "\\777x");
        assert_eq!(unescape("\\"), "\\");
    }

    #[test]
    fn own_groups() {
        let own = memberships("9:name=systemd:/a\n2:cpu,cpuacct:/b:c\n0::/user.slice\nrubbish\n");
        assert_eq!(own.len(), 3);
        assert_eq!(
            (own[1].controllers.as_slice(), own[1].path.as_str()),
            (&["cpu".into(), "cpuacct".into()][..], "/b:c")
        );
        assert_eq!((own[2].controllers.len(), own[2].path.as_str()), (0, "/user.slice"));
    }

    #[test]
    fn group_below_mount() {
        assert_eq!(below("/", "/"), Some(""));
        assert_eq!(below("/", "/a/b"), Some("a/b"));
        assert_eq!(below("/docker/x", "/docker/x"), Some(""));
        assert_eq!(below("/docker/x", "/docker/x/y"), Some("y"));
        assert_eq!(below("/docker/x", "/docker/xy"), None);
        assert_eq!(below("/docker/x", "/"), None);
        assert_eq!(below("/..", "/"), None);
        assert_eq!(below("/", "/../other"), None);
    }

    #[test]
    fn counters() {
        let stat = "usage_usec 12\nuser_usec 7\nsystem_usec 5\n";
        assert_eq!((keyed(stat, "user_usec"), keyed(stat, "user"), keyed(stat, "nr")), (Some(7), None, None));
        assert_eq!(keyed("low 0\noom 1\noom_kill 2\noom_group_kill 3\n", "oom"), Some(1));
        assert_eq!(io_bytes("8:0 rbytes=10 wbytes=1 rios=1\n8:16 rbytes=5 wbytes=2\n"), (15, 3));
        assert_eq!(io_bytes(""), (0, 0));
        let psi = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 total=7\n";
        assert_eq!((stalled(psi, "some"), stalled(psi, "full")), (Some(1.5), Some(7e-6)));
        assert_eq!(stalled("some avg10=0\n", "some"), None);
    }

    #[test]
    fn lists() {
        assert_eq!(cpu_list("0-2, 5\n").unwrap(), BTreeSet::from([0, 1, 2, 5]));
        assert_eq!(cpu_list("").unwrap(), BTreeSet::new());
        for bad in ["x", "1-", "-1", "3-1", "1,,2", "+1", "0-9999999", "1-2-3"] {
            assert!(cpu_list(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn lists_come_back(set in proptest::collection::btree_set(0u32..MOST_CPUS, 0..40)) {
            prop_assert_eq!(cpu_list(&cpu_text(&set)).unwrap(), set);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,80}(\n\\PC{0,80}){0,3}") {
            let _ = (mounts(&text), memberships(&text), keyed(&text, "a"), io_bytes(&text), stalled(&text, "some"), cpu_list(&text));
            let _ = unescape(&text);
        }

        #[test]
        fn a_group_below_is_the_rest_of_its_path(root in "(/[a-z]{1,4}){0,3}", rest in "(/[a-z]{1,4}){0,3}") {
            let root = if root.is_empty() { "/".to_owned() } else { root };
            let path = format!("{}{rest}", root.trim_end_matches('/'));
            prop_assert_eq!(below(&root, if path.is_empty() { "/" } else { &path }), Some(rest.trim_matches('/')));
        }

        #[test]
        fn an_escaped_point_comes_back(point in "/[a-z \t\\\\]{0,12}") {
            let escaped: String = point.chars().map(|c| match c {
                ' ' | '\t' | '\\' => format!("\\{:03o}", c as u32),
                c => c.to_string(),
            }).collect();
            let found = mounts(&format!("1 2 0:3 / {escaped} rw - cgroup2 none rw"));
            prop_assert_eq!(&found[0].point, &point);
        }
    }
}
