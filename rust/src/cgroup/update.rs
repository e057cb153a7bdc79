//! New limits for a live container: all of them, or none. Kills nothing: what does not fit is an error with both numbers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::files::Directory;
use super::freeze::Still;
use super::plan::{self, Draft, Missing, Write};
use super::{Controller, Groups, Guarantee, Limits, State, Version, groups, processes};
use crate::error::{Error, Result};

/// How long the container may take to stand still; where it does not, it is changed while it runs.
const STILL: Duration = Duration::from_secs(1);
/// A memory group that came late holds at least this much besides what it does not count.
const LEAST: u64 = 1 << 20;
/// How often the list of processes is read again while they are moved: forks go on where nothing can stop them.
const ROUNDS: usize = 64;
const EBUSY: i32 = 16;
const EAGAIN: i32 = 11;

/// What the groups alone do not know of their container.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inside {
    /// Its PID 1, as this process numbers it.
    pub first: Option<i32>,
    /// How many of its tasks are the engine's own, and not in a number that the caller wrote.
    pub ours: u64,
}

/// What an update changed, and what was there before.
#[derive(Debug)]
pub struct Changed {
    undo: Vec<(Controller, &'static str, String)>,
    members: usize,
    rows: Vec<Guarantee>,
    writes: Vec<Write>,
    oom_event: bool,
    uncharged: u64,
}

impl Changed {
    /// Its memory group was made now: nobody watches it yet.
    pub fn late_memory(&self, groups: &Groups) -> bool {
        let memory = groups.seat(Controller::Memory).map(|(hierarchy, _)| hierarchy);
        groups.members.iter().skip(self.members).any(|member| Some(member.hierarchy) == memory)
    }
}

impl Groups {
    /// `limits` are all that hold from now on, those that stay as they are among them. After an error nothing is changed.
    pub fn update(&mut self, limits: &Limits, inside: Inside) -> Result<Changed> {
        let tree = Arc::clone(&self.tree);
        let draft = plan::plan(&tree.seats, &tree.machine, limits)?;
        let mut changed = Changed {
            undo: Vec::new(),
            members: self.members.len(),
            rows: self.rows.clone(),
            writes: self.writes.clone(),
            oom_event: self.oom_event,
            uncharged: self.uncharged,
        };
        match self.carry_out(draft, inside, &mut changed) {
            Ok(()) => Ok(changed),
            Err(error) => {
                self.revert(changed);
                Err(error)
            }
        }
    }

    /// As it was before that update.
    pub fn revert(&mut self, changed: Changed) {
        for (controller, file, former) in changed.undo.iter().rev() {
            if let Some((_, directory)) = self.counted(*controller) {
                let _ = directory.write(file, former);
            }
        }
        for member in self.members.drain(changed.members..).rev() {
            let parent = &self.tree.hierarchies[member.hierarchy].parent;
            move_back(&member.directory, parent);
            // What resists is removed with the container's other groups.
            let _ = groups::remove(parent, &self.name);
        }
        (self.rows, self.writes) = (changed.rows, changed.writes);
        (self.oom_event, self.uncharged) = (changed.oom_event, changed.uncharged);
    }

    fn carry_out(&mut self, draft: Draft<'_>, inside: Inside, changed: &mut Changed) -> Result<()> {
        let Draft { limits, needed, mut writes, rows, oom_event, .. } = draft;
        let lifted = self.lifted(&writes);
        let (counted, running) = (self.counts_memory(), self.live_stats(inside.first).pids.unwrap_or(0));
        (self.rows, self.oom_event) = (rows, oom_event);
        needed.into_iter().try_for_each(|controller| self.join_late(controller))?;
        let late = self.members.len() > changed.members;
        let still = if late { self.still(STILL) } else { None };
        let there = self.processes(changed.members, inside);
        if !counted && writes.iter().any(|write| write.controller == Controller::Memory) {
            self.uncharged = there
                .as_deref()
                .and_then(processes::held)
                .map_or(0, |held| held.resident - held.shared.min(held.resident));
        }
        self.discount(&mut writes)?;
        let mut changes: Vec<Write> = writes.iter().filter(|write| !self.writes.contains(write)).cloned().collect();
        changes.extend(lifted);
        for write in self.ordered(changes.into_iter().map(|write| all_rates(&write)).collect()) {
            let unwritten = limits.unwritten.iter().any(|name| name == write.limit);
            if !unwritten && let Err(missing) = self.change(&write, (running, inside.ours), changed)? {
                self.lack(write.limit, missing, &limits.degrade)?;
            }
        }
        if late {
            self.migrate(changed.members, inside)?;
        }
        drop(still);
        self.writes = writes;
        Ok(())
    }

    /// A group of version 1 can be joined at any time; one of version 2 is where the container was born, or nowhere, and has files
    /// for a controller from the moment at which that is turned on.
    fn join_late(&mut self, controller: Controller) -> Result<()> {
        if let Some((hierarchy, Version::V2)) = self.tree.seats[controller as usize].at() {
            self.unified().map_err(|missing| Error::unsupported(controller.title(), missing.cause, missing.fix))?;
            // Where that fails, the write of the limit says so.
            let _ = self.tree.hierarchies[hierarchy].enable(controller);
        }
        self.join(controller)
    }

    fn counts_memory(&self) -> bool {
        let files = ["memory.usage_in_bytes", "memory.current"];
        self.counted(Controller::Memory)
            .is_some_and(|(_, directory)| files.iter().any(|file| directory.read(file).is_some()))
    }

    /// The processes of the container, from the first `members` groups or from its PID 1.
    fn processes(&self, members: usize, inside: Inside) -> Option<Vec<i32>> {
        let unified = |member: &&groups::Member| self.tree.hierarchies[member.hierarchy].version == Version::V2;
        let old = &self.members[..members.min(self.members.len())];
        match old.iter().find(unified).or(old.first()) {
            Some(member) => listed(&member.directory),
            None => processes::tree(inside.first?).map(|tree| tree.pids),
        }
    }

    /// What a late memory group does not count is taken off its limits, so that both together stay below what was asked.
    fn discount(&mut self, writes: &mut [Write]) -> Result<()> {
        let uncharged = self.uncharged;
        let of_memory = |write: &&mut Write| write.controller == Controller::Memory && write.limit != "oom_group";
        for write in writes.iter_mut().filter(of_memory).filter(|_| uncharged > 0) {
            let Ok(bytes) = write.value.parse::<u64>() else { continue };
            if write.file == "memory.swap.max" {
                continue;
            }
            if bytes < uncharged + LEAST {
                return Err(in_use(write.limit, bytes, uncharged, "bytes"));
            }
            write.value = (bytes - uncharged).to_string();
            let why = format!("{uncharged} bytes that it held before, which its group does not count, were taken off");
            let held = |row: &&mut Guarantee| row.name == write.limit && row.state == State::Held;
            self.rows.iter_mut().filter(held).for_each(|row| row.why.clone_from(&why));
        }
        Ok(())
    }

    /// What takes the rates away that no rule names any more.
    fn lifted(&self, new: &[Write]) -> Vec<Write> {
        let same = |a: &Write, b: &Write| a.file == b.file && device(a) == device(b);
        let old = self.writes.iter().filter(|old| old.limit == "io");
        let gone = old.filter(|old| !new.iter().any(|new| same(old, new)));
        // In version 2 a device alone is a rule without any rate.
        let none = |old: &Write| if old.file == "io.max" { String::new() } else { " 0".to_owned() };
        gone.map(|old| Write { value: format!("{}{}", device(old), none(old)), ..old.clone() }).collect()
    }

    /// Version 1 keeps memsw >= memory at every moment.
    fn ordered(&self, mut changes: Vec<Write>) -> Vec<Write> {
        let at = |file| changes.iter().position(|write: &Write| write.file == file);
        let pair = at("memory.limit_in_bytes").zip(at("memory.memsw.limit_in_bytes"));
        let now =
            self.counted(Controller::Memory).and_then(|(_, directory)| directory.number("memory.memsw.limit_in_bytes"));
        if let (Some((limit, sum)), Some(now)) = (pair, now)
            && changes[sum].value.parse::<u64>().is_ok_and(|new| new < now) == (sum < limit)
        {
            changes.swap(limit, sum);
        }
        changes
    }

    /// One value for one file, as `put`, with what was there kept.
    fn change(
        &self,
        write: &Write,
        tasks: (u64, u64),
        changed: &mut Changed,
    ) -> Result<std::result::Result<(), Missing>> {
        let Some((_, directory)) = self.counted(write.controller) else { return Ok(Ok(())) };
        if let Some(former) = former(directory, write) {
            changed.undo.push((write.controller, write.file, former));
        }
        let asked = write.value.parse::<u64>().ok();
        let room = match (write.file, asked) {
            ("memory.max", Some(most)) => self.make_room(directory, most, changed)?,
            ("pids.max", Some(most)) => {
                not_fewer(most, tasks)?;
                None
            }
            _ => None,
        };
        let put = match self.put(write) {
            Err(Error::Setup { errno: EBUSY, .. }) if write.controller == Controller::Memory => {
                let file =
                    if write.file.contains("memsw") { "memory.memsw.usage_in_bytes" } else { "memory.usage_in_bytes" };
                let used = directory.number(file).unwrap_or(0);
                Err(in_use(write.limit, asked.unwrap_or(0) + self.uncharged, used + self.uncharged, "bytes"))
            }
            put => put,
        };
        if let Some(Room { high, .. }) = room {
            let _ = directory.write("memory.high", &high);
        }
        put
    }

    /// Version 2 kills at once what does not fit into a new memory.max, so it is made to fit before: by memory.high, which nobody dies
    /// of, and memory.reclaim (5.19), while the container stands still.
    fn make_room(&self, directory: &Directory, most: u64, changed: &mut Changed) -> Result<Option<Room>> {
        let lowers = directory.number("memory.max").is_none_or(|now| most < now);
        let (Some(high), true) = (directory.read("memory.high"), lowers) else { return Ok(None) };
        let used = || directory.number("memory.current").unwrap_or(0);
        let high = high.trim().to_owned();
        changed.undo.push((Controller::Memory, "memory.high", high.clone()));
        let room = Room { _still: self.still(STILL), high };
        if room.high.parse::<u64>().is_ok_and(|high| high <= most) {
            // Lower than that already.
        } else {
            let _ = directory.write("memory.high", &most.to_string());
        }
        let beyond = used().saturating_sub(most);
        if beyond > 0 {
            let _ = directory.write("memory.reclaim", &beyond.to_string());
        }
        match used() {
            used if used > most => Err(in_use("memory", most + self.uncharged, used + self.uncharged, "bytes")),
            _ => Ok(Some(room)),
        }
    }

    /// Every process of the container into the groups after the first `members`. Its forks are in them from then on.
    fn migrate(&self, members: usize, inside: Inside) -> Result<()> {
        let mut written = BTreeSet::new();
        for _ in 0..ROUNDS {
            let there =
                self.processes(members, inside).ok_or_else(|| Error::setup("list the container's processes", 3))?;
            let new: Vec<i32> = there.into_iter().filter(|pid| written.insert(*pid)).collect();
            if new.is_empty() {
                return Ok(());
            }
            for member in &self.members[members..] {
                new.iter().try_for_each(|pid| place(*pid, &member.directory))?;
            }
        }
        Err(Error::setup("move the container's processes into a group: there are always more of them", EAGAIN))
    }
}

/// A container that was made to fit into less memory, and that stands still until it has less.
struct Room {
    _still: Option<Still>,
    high: String,
}

/// The kernel takes a bound below what there is, and then refuses every fork. `ours` are no tasks of the caller's.
fn not_fewer(most: u64, (running, ours): (u64, u64)) -> Result<()> {
    let own = |tasks: u64| tasks.saturating_sub(ours);
    if running > most { Err(in_use("pids", own(most), own(running), "tasks")) } else { Ok(()) }
}

fn listed(directory: &Directory) -> Option<Vec<i32>> {
    Some(directory.read("cgroup.procs")?.lines().filter_map(|line| line.parse().ok()).collect())
}

/// One that has ended meanwhile is nowhere.
fn place(pid: i32, directory: &Directory) -> Result<()> {
    match directory.write("cgroup.procs", &pid.to_string()) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(directory.write_error("cgroup.procs", &pid.to_string(), errno, None)),
    }
}

fn move_back(directory: &Directory, parent: &Directory) {
    for _ in 0..ROUNDS {
        let there = listed(directory).unwrap_or_default();
        if there.is_empty() {
            return;
        }
        for pid in there {
            let _ = parent.write("cgroup.procs", &pid.to_string());
        }
    }
}

/// The limit would be below what is in use.
pub fn in_use(limit: &str, asked: u64, used: u64, unit: &str) -> Error {
    let step = format!("lower {limit} to {asked} with {used} {unit} in use");
    Error::Setup { step, path: None, errno: EBUSY, note: Some("no limit was changed".to_owned()) }
}

fn device(write: &Write) -> &str {
    write.value.split(' ').next().unwrap_or_default()
}

/// A rule of version 2 leaves the rates alone that it does not name; a new one stands for all of them.
fn all_rates(write: &Write) -> Write {
    if write.file != "io.max" {
        return write.clone();
    }
    let mut value = write.value.clone();
    for key in ["rbps", "wbps", "riops", "wiops"] {
        if !write.value.contains(&format!(" {key}=")) {
            value.push_str(&format!(" {key}=max"));
        }
    }
    Write { value, ..write.clone() }
}

/// What to write to have the file as it is.
fn former(directory: &Directory, write: &Write) -> Option<String> {
    let text = directory.read(write.file)?;
    if write.controller == Controller::Io {
        let device = device(write);
        let line = text.lines().find(|line| line.split(' ').next() == Some(device));
        let none = if write.file == "io.max" {
            format!("{device} rbps=max wbps=max riops=max wiops=max")
        } else {
            format!("{device} 0")
        };
        return Some(line.map_or(none, str::to_owned));
    }
    // An empty value has to be written as a line.
    Some(if text.trim().is_empty() { "\n".to_owned() } else { text.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &'static str, value: &str) -> Write {
        Write { limit: "io", controller: Controller::Io, file, value: value.into(), optional: false }
    }

    #[test]
    fn a_new_rule_of_a_device_stands_for_all_its_rates() {
        assert_eq!(all_rates(&write("io.max", "8:0 wbps=5")).value, "8:0 wbps=5 rbps=max riops=max wiops=max");
        assert_eq!(all_rates(&write("pids.max", "5")).value, "5");
    }

    #[test]
    fn both_numbers_are_in_the_error() {
        let text = in_use("memory", 52_428_800, 110_100_480, "bytes").to_string();
        assert!(text.starts_with("lower memory to 52428800 with 110100480 bytes in use"), "{text}");
    }
}
