//! The start of one container, from groups and ids to the message to the keeper. What is half done where a step fails is undone.

use super::contents;
use super::engine::Engine;
use super::late;
use super::limits;
use super::log::Log;
use super::plan::{self, Descriptors};
use super::prepare::Prepared;
use super::spec::{Spec, Stream, UserSpace};
use super::streams::Streams;
use crate::cgroup::{CpuFormat, Groups};
use crate::error::{Error, Result};
use crate::gate::{self, Ours};
use crate::image::locks::Check;
use crate::mount::layout::Layout;
use crate::security::ids::Range;
use crate::security::maps::Maps;
use crate::sys;
use crate::wire::{self, Write, request};
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// What a launch leaves in this process.
pub struct Parts {
    pub id: u64,
    pub report: Ours,
    pub streams: Streams,
    pub log: Option<Log>,
    pub groups: Option<Groups>,
    pub range: Option<Range>,
    /// Why it does not go on, where its groups could not be made.
    pub refused: Option<Error>,
}

impl Parts {
    /// Groups, ids, writable layer, pipes, and the message to the keeper. After an error only the writable layer is left.
    pub fn launch(engine: &Arc<Engine>, spec: &Spec, prepared: &Prepared, check: Check<'_>) -> Result<Parts> {
        let id = engine.next_id();
        let name = engine.group_name(id);
        let unmade = Groups::plan(&engine.place, &name, &prepared.group_limits)?;
        // While one waits for its attach the kernel makes no group: then they are made before anybody does.
        let late = unmade.joined_late() && !engine.attach_waits();
        let (groups, unmade) = if late { (None, Some(unmade)) } else { (Some(unmade.make()?), None) };
        groups.iter().for_each(|groups| engine.expect_attach(groups));
        let range = engine.pool().filter(|_| prepared.own_range).map(|pool| pool.claim()).transpose();
        let range = match range {
            Ok(range) => range,
            Err(error) => {
                let _ = groups.map(Groups::remove);
                return Err(error);
            }
        };
        let undo = Undo { engine, groups, range };
        let ids = prepared.ids(undo.range.as_ref());
        prepared.make_skeleton(engine, &ids)?;
        prepared.make_shifted(spec, &ids, check)?;
        prepared.make_upper(engine, spec, (&name, &ids), check)?;
        let gate = gate::spawning();
        let mut streams = Streams::open(spec)?;
        let log = [spec.stdout, spec.stderr].contains(&Stream::Log).then(Log::make).transpose()?;
        let (report, theirs) = sys::net::socketpair().map_err(|errno| Error::setup("socketpair", errno.0))?;
        let report = Ours::new(sys::host::adopt(report.release()));
        let order = Order { engine, spec, prepared, undo: &undo, late, id, ids, name: &name };
        order.send(&streams, log.as_ref(), theirs.raw())?;
        drop(theirs);
        streams.hand_over();
        drop(gate);
        let (groups, range) = undo.keep();
        let (groups, refused) = match unmade {
            Some(unmade) => late::follow(engine, unmade, id, &report),
            None => (groups, None),
        };
        Ok(Parts { id, report, streams, log, groups, range, refused })
    }
}

/// What resists this process is left to the keeper, and at the latest removed at its end: the run itself was sound.
pub fn remove_groups(engine: &Engine, groups: Groups) {
    let name = groups.name().to_owned();
    if groups.remove().is_err() {
        engine.keeper.remove(&name);
    }
}

/// What must be undone where a start fails half-way.
struct Undo<'a> {
    engine: &'a Engine,
    groups: Option<Groups>,
    range: Option<Range>,
}

impl Undo<'_> {
    fn keep(mut self) -> (Option<Groups>, Option<Range>) {
        (self.groups.take(), self.range.take())
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(groups) = self.groups.take() {
            remove_groups(self.engine, groups);
        }
        if let (Some(range), Some(pool)) = (self.range.take(), self.engine.pool()) {
            pool.give_back(range);
        }
    }
}

/// A plan on its way to the keeper.
struct Order<'a> {
    engine: &'a Engine,
    spec: &'a Spec,
    prepared: &'a Prepared,
    undo: &'a Undo<'a>,
    /// The groups come afterwards.
    late: bool,
    id: u64,
    ids: Maps,
    name: &'a str,
}

impl Order<'_> {
    fn send(&self, streams: &Streams, log: Option<&Log>, report: i32) -> Result<()> {
        let groups = self.undo.groups.as_ref();
        let mut descriptors = Descriptors::default();
        let mut flags = plan::flags(self.spec, self.engine.facts.one_id);
        descriptors.add(wire::role::REPORT, report, 0);
        for (index, (fd, own)) in streams.ends.iter().enumerate() {
            let (role, flag) = plan::stream_role(index);
            descriptors.add(role, *fd, 0);
            flags |= if *own { flag } else { 0 };
        }
        if let Some(log) = log {
            descriptors.add(wire::role::LOG, log.file().as_raw_fd(), 0);
        }
        for (role, pipe) in [wire::role::LOG_STDOUT, wire::role::LOG_STDERR].into_iter().zip(&streams.logged) {
            pipe.iter().for_each(|pipe| descriptors.add(role, pipe.as_raw_fd(), 0));
        }
        if self.late {
            flags |= wire::flag::LATE_GROUPS | wire::flag::CPU_V1 | wire::flag::TELL_GONE;
        }
        if groups.and_then(Groups::cpu_clock).is_some_and(|clock| clock.format == CpuFormat::UsageNsec) {
            flags |= wire::flag::CPU_V1;
        }
        flags |= if groups.is_some_and(|groups| !groups.is_empty()) { wire::flag::TELL_GONE } else { 0 };
        flags |= if matches!(self.spec.user_space, UserSpace::Map(_)) { wire::flag::OWN_MAP } else { 0 };
        let held = self.prepared.add_descriptors(self.spec, groups, self.undo.range.as_ref(), &mut descriptors)?;
        let head = self.prepared.head(self.engine, self.spec, self.id, flags, &self.ids);
        let command = plan::command(self.spec, limits::hard_limit, self.prepared.one_id_pids(self.engine, self.spec));
        let layout = self.prepared.layout(self.spec);
        refuse_too_many(self.spec, self.prepared, &layout)?;
        let body = plan::encode(&head, &descriptors, self.name, &self.ids, &layout, &command);
        let sent = deliver(self.engine, &body, descriptors);
        drop(held);
        self.prepared.ports.hand_over();
        self.prepared.remember(layout);
        sent
    }
}

fn refuse_too_many(spec: &Spec, prepared: &Prepared, layout: &Layout) -> Result<()> {
    // Beside the layers of its image, for which there is room at any rate.
    const MOST: usize = wire::SLOTS / 4;
    let (asked, count) = (spec.mounts.len(), layout.slots - prepared.layers());
    if count <= MOST {
        return Ok(());
    }
    let message = format!(
        "mounts: {asked} of them make {count} of one container, which can have {MOST} (an overlay is three, an image one and its layers)"
    );
    Err(Error::Value(message))
}

/// One message where it fits, else the plan in a sealed memfd as the last descriptor.
fn deliver(engine: &Engine, body: &[u8], mut descriptors: Descriptors) -> Result<()> {
    if descriptors.fds.len() + 1 > sys::net::MAX_FDS {
        return Err(Error::Value(format!("pass_fds: at most {} descriptors can be passed", sys::net::MAX_FDS - 16)));
    }
    let mut message = Vec::with_capacity(body.len() + 1);
    if body.len() < wire::MESSAGE_MAX {
        message.put_u8(request::SPAWN);
        message.extend_from_slice(body);
        return engine.keeper.send(&message, &descriptors.fds);
    }
    let file = contents::memory_file(body)?;
    message.put_u8(request::SPAWN_FILE);
    message.put_u64(body.len() as u64);
    descriptors.fds.push(file.as_raw_fd());
    engine.keeper.send(&message, &descriptors.fds)
}
