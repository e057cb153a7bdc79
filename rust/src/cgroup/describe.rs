//! What this machine can hold, limit by limit, tried out on a group that is removed again. Leaves nothing.

use super::{Cap, Controller, Groups, Guarantee, IoRule, Limits, Place, State, Version, group_name};

impl Place {
    /// One row per limit, and for kill, freeze and pressure. Makes and removes groups: for `doctor`, not for each run.
    pub fn describe(&self) -> Vec<Guarantee> {
        let mut rows: Vec<_> = self.trials().into_iter().map(|(name, limits)| self.trial(name, limits)).collect();
        rows.extend(self.unified());
        rows
    }

    /// For each limit the mildest value that needs everything a real one needs.
    fn trials(&self) -> Vec<(&'static str, Limits)> {
        let machine = &self.tree.machine;
        let most = Some(Cap::Value(machine.memory));
        let limits = Limits::default;
        let cpu = machine.allowed.first().map(u32::to_string);
        vec![
            ("memory", Limits { memory: most, ..limits() }),
            ("swap", Limits { memory: most, swap: Some(Cap::Value(0)), ..limits() }),
            ("memory_high", Limits { memory_high: most, ..limits() }),
            ("oom_group", Limits { oom_group: Some(true), ..limits() }),
            ("cpus", Limits { cpus: Some(machine.online.len() as f64), ..limits() }),
            ("cpu_weight", Limits { cpu_weight: Some(100), ..limits() }),
            ("cpuset", Limits { cpuset: cpu, ..limits() }),
            ("cpu_time", Limits { cpu_time: true, ..limits() }),
            ("pids", Limits { pids: Some(Cap::Value(1 << 20)), ..limits() }),
            ("io", Limits { io: some_disk().into_iter().collect(), ..limits() }),
            ("io_weight", Limits { io_weight: Some(100), ..limits() }),
        ]
    }

    fn trial(&self, name: &'static str, limits: Limits) -> Guarantee {
        let limits = Limits { degrade: vec![name.to_owned(), "memory".to_owned()], ..limits };
        let missing = |why: String| row(name, State::Missing, "", why, "");
        match Groups::create(self, &trial_name(), &limits) {
            Ok(groups) => {
                let found = groups.held().iter().find(|row| row.name == name).cloned();
                let left = groups.remove();
                left.err()
                    .map(|error| missing(error.to_string()))
                    .or(found)
                    .unwrap_or_else(|| missing("nothing to try it on".into()))
            }
            Err(error) => missing(error.to_string()),
        }
    }

    /// What a cgroup2 group gives without any controller.
    fn unified(&self) -> Vec<Guarantee> {
        const FILES: [(&str, &str, &str); 3] = [
            ("kill", "cgroup.kill", "Linux 5.14"),
            ("freeze", "cgroup.freeze", "Linux 5.2"),
            ("pressure", "memory.pressure", "a kernel with CONFIG_PSI, booted without psi=0"),
        ];
        let limits = Limits { unified: true, ..Limits::default() };
        let groups = match Groups::create(self, &trial_name(), &limits) {
            Ok(groups) => groups,
            Err(error) => {
                return FILES.map(|(name, ..)| row(name, State::Missing, "", error.to_string(), "")).to_vec();
            }
        };
        let rows = FILES.map(|(name, file, since)| match groups.counted(Controller::Unified) {
            Some((_, directory))
                if directory
                    .file(file, rustix::fs::OFlags::RDWR)
                    .or_else(|_| directory.file(file, rustix::fs::OFlags::WRONLY))
                    .is_ok() =>
            {
                row(name, State::Held, Version::V2.title(), String::new(), "")
            }
            Some(_) => row(name, State::Missing, "", format!("this kernel has no {file}"), since),
            None => self.no_unified(name),
        });
        // Nothing was ever in it; if it stays all the same, the next engine's sweep takes it.
        let _ = groups.remove();
        rows.to_vec()
    }

    fn no_unified(&self, name: &'static str) -> Guarantee {
        match &self.tree.seats[Controller::Unified as usize] {
            super::plan::Seat::Missing(missing) => row(name, State::Missing, "", missing.cause.clone(), &missing.fix),
            super::plan::Seat::At { .. } => row(name, State::Missing, "", "no group could be made".into(), ""),
        }
    }
}

fn row(name: &'static str, state: State, by: &str, why: String, fix: &str) -> Guarantee {
    Guarantee { name, state, by: by.to_owned(), why, fix: fix.to_owned() }
}

/// This program is the owner, so that a sweep takes the group if it dies in between; the thread keeps two trials apart.
fn trial_name() -> String {
    let (pid, thread) = (rustix::process::getpid(), rustix::thread::gettid());
    let start = super::sweep::start_time(pid.as_raw_nonzero().get() as u32).unwrap_or(0);
    group_name(pid.as_raw_nonzero().get() as u32, start, &format!("trial{}", thread.as_raw_nonzero()))
}

/// A rate that no disk reaches, on the first disk there is.
fn some_disk() -> Option<IoRule> {
    let entries = std::fs::read_dir("/sys/block").ok()?.filter_map(Result::ok);
    let device = entries.filter(|entry| entry.path().join("device").exists()).find_map(|entry| {
        let text = std::fs::read_to_string(entry.path().join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    })?;
    Some(IoRule { device, read_bps: Some(1 << 40), write_bps: None, read_iops: None, write_iops: None })
}
