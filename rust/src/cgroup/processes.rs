//! The processes of a container one by one, where no group counts for it. Reads /proc only, and never more than `MOST` of them.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

/// Beyond this many nothing is said, rather than something wrong. Twice the default bound on tasks.
const MOST: usize = 4096;

/// What processes hold together, in bytes. A page that two of them share counts twice.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) resident: u64,
    /// Of files and of shared memory.
    pub(super) shared: u64,
}

/// What a tree of processes has used, those among them that were reaped included.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) pids: Vec<i32>,
    /// Microseconds, in steps of the kernel's clock tick.
    pub(super) user: u64,
    pub(super) system: u64,
    pub(super) tasks: u64,
}

/// One that has ended meanwhile holds nothing. None where there are too many.
pub(super) fn held(pids: &[i32]) -> Option<Held> {
    if pids.len() > MOST {
        return None;
    }
    let page = rustix::param::page_size() as u64;
    let mut sum = Held::default();
    let mut buffer = [0u8; 128];
    for pid in pids {
        let Some(text) = read(&format!("/proc/{pid}/statm"), &mut buffer) else { continue };
        let mut pages = text.split_ascii_whitespace().skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
        sum.resident += pages.next().unwrap_or(0) * page;
        sum.shared += pages.next().unwrap_or(0) * page;
    }
    Some(sum)
}

/// All descendants of `first` and itself: in a pid namespace of its own nobody leaves the tree of PID 1. None where that cannot be seen.
pub(super) fn tree(first: i32) -> Option<Tree> {
    let mut tree = Tree { pids: vec![first], ..Tree::default() };
    let mut next = 0;
    while let Some(&pid) = tree.pids.get(next) {
        let (children, known) = (add(pid, &mut tree), next > 0);
        match children {
            Some(children) => tree.pids.extend(children),
            // Ended meanwhile.
            None if known => {}
            None => return None,
        }
        next += 1;
        if tree.pids.len() > MOST {
            return None;
        }
    }
    Some(tree)
}

/// Counts one process, and finds its children.
fn add(pid: i32, tree: &mut Tree) -> Option<Vec<i32>> {
    let mut buffer = [0u8; 1024];
    let stat = Stat::parse(read(&format!("/proc/{pid}/stat"), &mut buffer)?)?;
    let tick = 1_000_000 / rustix::param::clock_ticks_per_second().max(1);
    tree.user += stat.user * tick;
    tree.system += stat.system * tick;
    tree.tasks += stat.threads;
    if stat.threads <= 1 {
        return children(pid, pid);
    }
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.filter_map(Result::ok) {
        let task = task.file_name().to_str().and_then(|name| name.parse().ok());
        found.extend(task.and_then(|task| children(pid, task)).unwrap_or_default());
    }
    Some(found)
}

/// Linux 3.5, with CONFIG_PROC_CHILDREN.
fn children(pid: i32, task: i32) -> Option<Vec<i32>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{task}/children")).ok()?;
    Some(text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// The process that made it, or that has it now; None where it is not there or cannot be seen.
pub fn parent(pid: i32) -> Option<i32> {
    let mut buffer = [0u8; 1024];
    let text = read(&format!("/proc/{pid}/stat"), &mut buffer)?;
    let parent = text.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok();
    parent.filter(|pid| *pid > 0)
}

/// Of proc_pid_stat(5): clock ticks of the process and of its reaped children.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    user: u64,
    system: u64,
    threads: u64,
}

impl Stat {
    /// The command in field 2 may hold blanks and brackets, so the count starts after the last of them, at field 3.
    fn parse(text: &str) -> Option<Stat> {
        let fields: Vec<_> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let threads = number(20)?;
        Some(Stat { user: number(14)? + number(16)?, system: number(15)? + number(17)?, threads })
    }
}

/// One read: what is asked here is shorter than the buffer.
fn read<'a>(path: &str, buffer: &'a mut [u8]) -> Option<&'a str> {
    let file: OwnedFd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let length = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut *buffer)).ok()?;
    std::str::from_utf8(&buffer[..length]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_hides_no_field() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 20 0 3 0 99 1000 25";
        let stat = Stat::parse(&format!("7 (a) b (c) {tail}")).unwrap();
        assert_eq!(stat, Stat { user: 11 + 13, system: 12 + 14, threads: 3 });
        assert_eq!(Stat::parse("7 (a) S 1 2"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn this_process_is_the_tree_of_its_threads_and_children() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        // A child is listed under the thread that made it.
        let other = std::thread::spawn(|| std::process::Command::new("sleep").arg("60").spawn().unwrap());
        let mut second = other.join().unwrap();
        let tree = tree(std::process::id() as i32).unwrap();
        for child in [&mut child, &mut second] {
            assert!(tree.pids.contains(&(child.id() as i32)), "{tree:?}");
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(tree.tasks >= 4 && tree.user + tree.system < 3_600_000_000, "{tree:?}");
        assert!(super::tree(i32::MAX).is_none());
    }

    #[test]
    fn what_is_held_grows_with_what_is_touched() {
        let own = [std::process::id() as i32];
        let before = held(&own).unwrap();
        let block = vec![1u8; 64 << 20];
        let after = held(&own).unwrap();
        assert!(
            after.resident >= before.resident + (60 << 20) && after.shared <= after.resident,
            "{before:?} {after:?}"
        );
        drop(std::hint::black_box(block));
        assert_eq!(held(&[i32::MAX]), Some(Held::default()));
        assert_eq!(held(&vec![1; MOST + 1]), None);
    }
}
