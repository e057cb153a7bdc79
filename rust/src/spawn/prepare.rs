//! Looks at the host for one plan: sources, files, ranges, what this machine can hold. Refuses before anything is made.

use super::check;
use super::contents;
use super::copy;
use super::disk::Bound;
use super::driver::{self, Driver};
use super::engine::Engine;
use super::explain;
use super::identities;
use super::layer::Layer;
use super::limits;
use super::mounted::{self, Mounted};
use super::plan::{self, Descriptors, NEVER};
use super::ports::Published;
use super::seams;
use super::served;
use super::sources::{device, directory, layers_seen, look, standard_nodes};
use super::spaces;
use super::spec::{Root, Spec};
use crate::cgroup::{self, Groups, Guarantee};
use crate::error::{Error, Result};
use crate::gate::Ours;
use crate::image::locks::Check;
use crate::image::skeleton;
use crate::image::unions::Kind;
use crate::image::unpacked;
use crate::image::used::{self, Standing, Used};
use crate::mount::layout::{self, Facts, LAYER_SKELETON, Layout, RootSource, Sources, Upper};
use crate::mount::list::Source;
use crate::security::ids::Range;
use crate::security::maps::Maps;
use crate::wire::{Ended, Head, role};
use std::cell::OnceCell;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

/// The spec against this machine: what was found, opened and decided.
#[derive(Debug)]
pub struct Prepared {
    pub group_limits: cgroup::Limits,
    /// Limits that no group holds and that are held badly or not at all, as the caller allowed.
    pub degraded: Vec<Guarantee>,
    /// The container has a range of ids that is claimed for it.
    pub own_range: bool,
    /// What the container's ids are in the keeper's user namespace; None of a range that is not claimed yet.
    maps: Option<Maps>,
    facts: Facts,
    sources: Sources,
    files: Option<OwnedFd>,
    skeleton: OnceCell<Arc<OwnedFd>>,
    /// Of an image that has to lie below with the container's owners: that, known once a range is claimed.
    shifted: OnceCell<(Source, Used)>,
    mounted: Mounted,
    /// Layers of an image that nobody removes as long as this is here.
    _used: (Option<Standing>, Option<Used>),
    namespaces: Vec<(OwnedFd, u64)>,
    pub ports: Published,
    /// What holds `limits.disk` where the layer is on the disk.
    pub bound: Option<Bound>,
    layer: OnceCell<Layer>,
    /// Of a copy of the image, `Sources::unread`, and what a quota counted before the start.
    unread: OnceCell<Vec<Vec<u8>>>,
    ground: OnceCell<u64>,
    layout: OnceCell<Layout>,
    /// What the program says that shows the root.
    said: OnceCell<Ours>,
}

pub fn prepare(engine: &Engine, spec: &Spec, check: Check<'_>) -> Result<Prepared> {
    check::all(engine, spec)?;
    let choice = driver::of(engine, spec)?;
    let driver = choice.driver;
    let copies = driver.copies();
    let maps = identities::maps(engine, spec)?;
    let facts = identities::facts(engine, spec);
    let (degraded, bound) = limits::degraded(engine, spec, copies)?;
    let used = layers(spec)?;
    let (root, skeleton, union) = match &spec.root {
        Root::Layers(layers) if copies || driver == Driver::Fuse => {
            let (tree, union) = copy::union(driver, layers, check)?;
            (RootSource::Layers(vec![tree]), None, Some(union))
        }
        _ => {
            let (root, skeleton) = root(engine, spec, used.as_ref())?;
            (root, skeleton, None)
        }
    };
    let copy = if copies { copy::of(driver, engine, spec, &root)? } else { None };
    let (mounts, mounted) = mounted::look(engine, spec, check)?;
    let (files, offsets) = contents::files(spec)?;
    let sources = Sources {
        root,
        mounts,
        devices: spec.devices.iter().map(|path| device(path)).collect::<Result<_>>()?,
        nodes: if facts.rootless { standard_nodes()? } else { Vec::new() },
        shared: spaces::shared(spec)?,
        files: offsets,
        upper: Upper::Memory(limits::upper_size(spec)),
        copy,
        shifted: choice.shifted,
        served: served::program().filter(|_| driver == Driver::Fuse),
        unread: Vec::new(),
    };
    Ok(Prepared {
        group_limits: limits::of_groups(engine, spec),
        degraded,
        own_range: maps.is_none(),
        maps,
        facts,
        sources,
        files,
        skeleton: skeleton.map_or_else(OnceCell::new, OnceCell::from),
        shifted: OnceCell::new(),
        mounted,
        _used: (used, union),
        namespaces: spaces::opened(spec)?,
        ports: Published::open(spec)?,
        bound,
        layer: OnceCell::new(),
        unread: OnceCell::new(),
        ground: OnceCell::new(),
        layout: OnceCell::new(),
        said: OnceCell::new(),
    })
}

fn layers(spec: &Spec) -> Result<Option<Standing>> {
    match &spec.root {
        Root::Layers(layers) => used::take_stack(layers).map(Some),
        Root::Directory(path) if unpacked::is_archive(path) => used::take_stack(std::slice::from_ref(path)).map(Some),
        _ => Ok(None),
    }
}

fn root(engine: &Engine, spec: &Spec, used: Option<&Standing>) -> Result<(RootSource, Option<Arc<OwnedFd>>)> {
    match &spec.root {
        Root::Directory(path) => Ok((RootSource::Directory(directory(path)?), None)),
        Root::Layers(layers) => {
            let sources = used.map(|used| layers_seen(layers, used)).unwrap_or_default();
            Ok((RootSource::Layers(sources), None))
        }
        Root::View => Ok((RootSource::View, None)),
        Root::Host { directories, writable: false } => {
            let trees = skeleton::trees(directories);
            let skeleton = engine.skeleton(&trees, 0)?;
            let trees = trees.iter().map(|path| look(path, "image")).collect::<Result<_>>()?;
            Ok((RootSource::Host { trees, writable: false }, Some(skeleton)))
        }
        Root::Host { directories, writable: true } => {
            if !engine.is_root() {
                let cause = "the owners of this machine's files can be mapped by root only";
                return Err(Error::unsupported("Image.host(writable=True)", cause, WRITABLE_FIX));
            }
            let trees = skeleton::single_trees(directories)?;
            let trees = trees.iter().map(|path| look(path, "image")).collect::<Result<_>>()?;
            Ok((RootSource::Host { trees, writable: true }, None)) // its owner is known once a range is claimed
        }
    }
}

const WRITABLE_FIX: &str =
    "run as root, or Mount.overlay(source, target) for a directory of this user's, or Image.from_directory(path)";

impl Prepared {
    /// The container's ids in the keeper's user namespace.
    pub fn ids(&self, range: Option<&Range>) -> Maps {
        range.map(Range::maps).or_else(|| self.maps.clone()).unwrap_or_default()
    }

    /// The skeleton of a writable `Image.host()`, which belongs to the container's root.
    pub fn make_skeleton(&self, engine: &Engine, ids: &Maps) -> Result<()> {
        if let RootSource::Host { trees, writable: true } = &self.sources.root {
            let paths: Vec<PathBuf> = trees.iter().map(|tree| OsStr::from_bytes(&tree.path).into()).collect();
            let _ = self.skeleton.set(engine.skeleton(&paths, ids.root().0)?);
        }
        Ok(())
    }

    /// Images with the container's owners on the disk, where nothing else shows them with those.
    pub fn make_shifted(&self, spec: &Spec, ids: &Maps, check: Check<'_>) -> Result<()> {
        self.mounted.shift(ids, check)?;
        let layers = match &spec.root {
            Root::Layers(layers) => &layers[..],
            Root::Directory(archive) => std::slice::from_ref(archive),
            Root::Host { .. } | Root::View => return Ok(()),
        };
        if self.sources.shifted {
            let _ = self.shifted.set(copy::tree(layers, Kind::Shifted(ids), check)?);
        }
        Ok(())
    }

    /// Makes the writable layer on the disk, where it was asked for (or memory cannot hold it: K23).
    pub fn make_upper(&self, engine: &Engine, spec: &Spec, (name, ids): (&str, &Maps), check: Check<'_>) -> Result<()> {
        if let Some(copy) = &self.sources.copy {
            let bound = self.bound.filter(|_| !seams::skips("disk"));
            let (layer, unread) = copy::make(engine, copy, &self.sources.root, (name, ids), bound, check)?;
            let _ = (self.ground.set(layer.ground()), self.layer.set(layer), self.unread.set(unread));
            return Ok(());
        }
        let too_old = engine.facts.rootless && engine.kernel < (6, 6);
        if spec.root != Root::View && (spec.upper_on_disk || too_old || seams::skips("upper")) {
            let _ = self.layer.set(Layer::make(engine, &self.sources.root, name, ids.root().0, self.bound)?);
        }
        Ok(())
    }

    pub fn add_descriptors(
        &self,
        spec: &Spec,
        groups: Option<&Groups>,
        range: Option<&Range>,
        descriptors: &mut Descriptors,
    ) -> Result<Kept> {
        let mut kept = Vec::new();
        if let Some(file) = &self.files {
            descriptors.add(role::FILES, file.as_raw_fd(), 0);
        }
        if let Some(skeleton) = self.skeleton.get() {
            descriptors.add(role::LAYER, skeleton.as_raw_fd(), LAYER_SKELETON as i32);
        }
        if let Some((role, fd, number)) = self.layer.get().and_then(Layer::descriptor) {
            descriptors.add(role, fd, number);
        }
        if self.served() {
            let (ours, theirs) = served::log()?;
            descriptors.add(role::DAEMON_LOG, theirs.as_raw_fd(), 0);
            kept.push(theirs);
            let _ = self.said.set(ours);
        }
        for (fd, kind) in &self.namespaces {
            descriptors.add(role::NAMESPACE, fd.as_raw_fd(), *kind as i32);
        }
        if let Some(range) = range {
            descriptors.add(role::RANGE_LOCK, range.lock().as_raw_fd(), 0);
        }
        self.ports.add_to(descriptors);
        spec.pass_fds.iter().for_each(|fd| descriptors.add(role::PASS, *fd, *fd));
        if let Some(groups) = groups {
            add_groups(groups, descriptors, &mut kept)?;
        }
        Ok(kept)
    }

    pub fn head(&self, engine: &Engine, spec: &Spec, id: u64, flags: u32, ids: &Maps) -> Head {
        let nanoseconds =
            |seconds: Option<f64>| seconds.map_or(NEVER, |seconds| (seconds * 1e9).clamp(0.0, 9e18) as u64);
        Head {
            id,
            flags,
            base: ids.root().0,
            group_base: ids.root().1,
            creators: engine.ids().saturating_sub(1),
            clone_flags: plan::clone_flags(
                spec,
                self.facts.user_namespace,
                engine.has_time && !seams::skips("namespace:time"),
            ),
            nproc: self.nproc(engine, spec),
            timeout: nanoseconds(spec.timeout),
            wall_time: nanoseconds(spec.limits.wall_time),
            cpu_time: nanoseconds(spec.limits.cpu_time),
            // All of them: a command may leave the affinity that it inherited.
            cpus: engine.place.processors(),
            oom_score_adj: match spec.limits.oom_score_adj {
                Some(_) if seams::skips("oom_score_adj") => i32::MIN,
                Some(score) if self.degraded.iter().all(|row| row.name != "oom_score_adj") => score,
                _ => i32::MIN,
            },
            output: spec.limits.output.unwrap_or(NEVER),
            output_kills: u8::from(spec.limits.output_kills),
        }
    }

    /// The bound on tasks that the user namespace itself holds (5.14).
    fn nproc(&self, engine: &Engine, spec: &Spec) -> u64 {
        let bound = limits::pids_bound(engine, spec);
        let by_namespace = self.facts.user_namespace && !engine.facts.one_id;
        // The program that shows the root has the ids of who made the namespace, and is counted too.
        let beside = u64::from(self.served() && engine.is_root());
        bound.filter(|_| by_namespace && !seams::skips("pids")).map_or(NEVER, |bound| bound + beside)
    }

    /// With one id an rlimit inside is the bound: there is no other id to escape to.
    pub fn one_id_pids(&self, engine: &Engine, spec: &Spec) -> Option<u64> {
        limits::pids_bound(engine, spec).filter(|_| engine.facts.one_id)
    }

    pub fn layout(&self, spec: &Spec) -> Layout {
        let mut sources = self.sources.clone();
        if let Some((tree, _)) = self.shifted.get() {
            sources.root = RootSource::Layers(vec![tree.clone()]);
        }
        self.mounted.complete(&mut sources.mounts);
        if let Some(layer) = self.layer.get() {
            sources.upper = layer.source();
            sources.unread = self.unread.get().cloned().unwrap_or_default();
        } else if seams::skips("disk") {
            sources.upper = Upper::Memory(0);
        }
        let mut wanted = spec.wanted();
        wanted.read_only &= !seams::skips("read_only");
        layout::describe(wanted, &self.facts, &sources)
    }

    pub fn remember(&self, layout: Layout) {
        let _ = self.layout.set(layout);
    }

    /// For who removes it.
    pub fn take_layer(&mut self) -> Option<Layer> {
        self.layer.take()
    }

    pub fn explain(&self, spec: &Spec, ended: &Ended) -> Error {
        let died = |log| served::died(log, &explain::step_of(self.layout.get(), ended), ended.errno);
        let died = self.said.get().and_then(died);
        died.unwrap_or_else(|| explain::explain(spec, &self.facts, self.layout.get(), ended))
    }

    /// Another bound for the layer of a live container, where that is on the disk and can have one.
    pub fn rebound(&mut self, bytes: u64) -> Option<Result<()>> {
        self.layer.get_mut()?.rebound(bytes)
    }

    pub fn upper_is_on_disk(&self) -> bool {
        self.layer.get().is_some()
    }

    /// Of a root that is a copy, how many bytes that had of what bounds it.
    pub fn copied(&self) -> Option<u64> {
        self.sources.copy.map(|_| self.ground.get().copied().unwrap_or(0))
    }

    /// A program shows its root.
    pub fn served(&self) -> bool {
        self.sources.served.is_some() && self.sources.root.lowest().is_some()
    }

    /// How many layers of an image it stands on.
    pub fn layers(&self) -> usize {
        match (&self.sources.root, self.sources.shifted) {
            (RootSource::Layers(_), true) => 1,
            (RootSource::Layers(layers), false) => layers.len(),
            _ => 0,
        }
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// Descriptors that live until the message has been sent.
pub type Kept = Vec<OwnedFd>;

pub fn add_groups(groups: &Groups, descriptors: &mut Descriptors, kept: &mut Kept) -> Result<()> {
    if let Some(directory) = groups.into_cgroup().filter(|_| !seams::skips("cgroup")) {
        descriptors.add(role::INTO_CGROUP, directory.as_raw_fd(), 0);
    }
    for procs in groups.procs() {
        descriptors.add(role::JOIN_CGROUP, procs.as_fd().as_raw_fd(), 0);
    }
    let mut keep = |role, fd: Option<OwnedFd>| {
        if let Some(fd) = fd {
            descriptors.add(role, fd.as_raw_fd(), 0);
            kept.push(fd);
        }
    };
    let (event, control) = groups.oom_event()?.unzip();
    keep(role::OOM_CONTROL, control);
    keep(role::OOM_EVENT, event);
    keep(role::CGROUP_KILL, groups.kill_file()?);
    keep(role::CPU_USAGE, groups.cpu_clock().map(|clock| clock.fd));
    Ok(())
}
