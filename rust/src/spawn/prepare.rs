//! Looks at the host for one plan: sources, files, ranges, what this machine can hold. Refuses before anything is made.

use super::engine::Engine;
use super::explain;
use super::limits;
use super::plan::{self, Descriptors, NEVER};
use super::seams;
use super::spec::{Content, MountKind, Root, Space, Spec, UserSpace};
use super::upper::{self, UpperDirectory};
use crate::cgroup::{self, Groups, Guarantee};
use crate::error::{Error, Result};
use crate::image::skeleton;
use crate::mount::layout::{self, Facts, Layout, RootSource, Sources};
use crate::mount::list::Source;
use crate::security::ids::{COUNT, Range};
use crate::sys::constants::*;
use crate::sys::host;
use crate::wire::{Ended, Head, role};
use rustix::fs::{Mode, OFlags};
use std::cell::OnceCell;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

/// The spec against this machine: what was found, opened and decided.
#[derive(Debug)]
pub struct Prepared {
    pub group_limits: cgroup::Limits,
    /// Limits that no group holds and that are held badly or not at all, as the caller allowed.
    pub degraded: Vec<Guarantee>,
    /// The container has a range of ids that is claimed for it.
    pub own_range: bool,
    facts: Facts,
    sources: Sources,
    files: Option<OwnedFd>,
    skeleton: Option<Arc<OwnedFd>>,
    namespaces: Vec<(OwnedFd, u64)>,
    upper: OnceCell<UpperDirectory>,
    layout: OnceCell<Layout>,
}

pub fn prepare(engine: &Engine, spec: &Spec) -> Result<Prepared> {
    let facts = Facts { user_namespace: spec.user_space != UserSpace::Host, ..engine.facts.clone() };
    check(engine, spec)?;
    let degraded = limits::degraded(engine, spec)?;
    let (root, skeleton) = root(engine, spec)?;
    let (files, offsets) = files(spec)?;
    let sources = Sources {
        root,
        mounts: spec.mounts.iter().map(|mount| mount_source(mount, engine)).collect::<Result<_>>()?,
        devices: spec.devices.iter().map(|path| device(path)).collect::<Result<_>>()?,
        nodes: if facts.rootless { standard_nodes()? } else { Vec::new() },
        shared: shared(spec)?,
        files: offsets,
        upper_directory: None,
    };
    Ok(Prepared {
        group_limits: limits::of_groups(engine, spec),
        degraded,
        own_range: engine.is_root() && spec.user_space == UserSpace::Auto,
        facts,
        sources,
        files,
        skeleton,
        namespaces: namespaces(spec)?,
        upper: OnceCell::new(),
        layout: OnceCell::new(),
    })
}

fn check(engine: &Engine, spec: &Spec) -> Result<()> {
    if !engine.is_root() && spec.user_space == UserSpace::Host {
        let cause = "a plain user has no capabilities outside a user namespace";
        return Err(Error::unsupported("user_namespace", cause, "run as root, or leave user_namespace=\"auto\""));
    }
    if spec.user_space == UserSpace::Host && matches!(&spec.root, Root::Host { .. }) && !spec.no_new_privileges {
        return Err(Error::Value("security: user_namespace=\"host\" with Image.host() needs no_new_privileges".into()));
    }
    check_fds(spec)
}

fn check_fds(spec: &Spec) -> Result<()> {
    for fd in &spec.pass_fds {
        if rustix::io::fcntl_getfd(host::borrow(*fd)).is_err() {
            return Err(Error::Value(format!("pass_fds: {fd} is not an open descriptor")));
        }
    }
    Ok(())
}

fn root(engine: &Engine, spec: &Spec) -> Result<(RootSource, Option<Arc<OwnedFd>>)> {
    match &spec.root {
        Root::Directory(path) => {
            let source = look(path, "image")?;
            if !source.is_directory {
                return Err(not_a_directory(path));
            }
            std::fs::read_dir(path).map_err(|error| os("open the image", path, &error))?;
            Ok((RootSource::Directory(source), None))
        }
        Root::Host { directories, .. } => {
            let trees = skeleton::trees(directories);
            let skeleton = engine.skeleton(&trees)?;
            let sources = trees.iter().map(|path| look(path, "image")).collect::<Result<_>>()?;
            Ok((RootSource::Host(sources), Some(skeleton)))
        }
    }
}

fn not_a_directory(path: &Path) -> Error {
    let note =
        Some("Image.from_directory takes a root file system; for a tar of one there is Image.from_archive".to_string());
    Error::Setup { step: "open the image".into(), path: Some(path.display().to_string()), errno: 20, note }
}

fn os(step: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::setup_at(step, path.display().to_string(), error.raw_os_error().unwrap_or(5))
}

/// A source under its real name: links are followed once, here, and the keeper checks that it is still the same object.
fn look(path: &Path, what: &str) -> Result<Source> {
    let real = std::fs::canonicalize(path).map_err(|error| os(&format!("find the {what}"), path, &error))?;
    let seen = std::fs::symlink_metadata(&real).map_err(|error| os(&format!("find the {what}"), path, &error))?;
    Ok(Source {
        path: real.as_os_str().as_bytes().to_vec(),
        dev: device_number(seen.dev()),
        ino: seen.ino(),
        uid: seen.uid(),
        gid: seen.gid(),
        mode: seen.mode(),
        is_directory: seen.is_dir(),
    })
}

/// statx's (major, minor) in one number, as the keeper compares it.
fn device_number(dev: u64) -> u64 {
    (rustix::fs::major(dev) as u64) << 32 | rustix::fs::minor(dev) as u64
}

fn mount_source(mount: &super::spec::Mount, engine: &Engine) -> Result<Option<Source>> {
    let step = format!("mount source for {}", mount.target);
    match &mount.kind {
        MountKind::Tmpfs { .. } => Ok(None),
        MountKind::Overlay { source } => {
            let found = look(source, &step)?;
            if found.is_directory {
                Ok(Some(found))
            } else {
                Err(Error::setup_at("mount an overlay of", source.display().to_string(), 20))
            }
        }
        MountKind::Bind { source, read_only, owner } => {
            let found = look(source, &step)?;
            if engine.is_root() && !read_only && owner.is_none() && found.uid == 0 {
                let note = Some("a writable source owned by root: say owner=uid (who owns what the container writes), owner=0 aloud, or read_only=True".to_string());
                return Err(Error::Setup {
                    step: "bind".into(),
                    path: Some(source.display().to_string()),
                    errno: 1,
                    note,
                });
            }
            Ok(Some(found))
        }
    }
}

fn device(path: &Path) -> Result<(String, u32, u32, u32, Source)> {
    let seen = std::fs::metadata(path).map_err(|error| os("find the device", path, &error))?;
    let kind = if seen.file_type().is_char_device() {
        S_IFCHR
    } else if seen.file_type().is_block_device() {
        S_IFBLK
    } else {
        return Err(Error::setup_at("find the device", path.display().to_string(), 22));
    };
    let name = path.strip_prefix("/dev").unwrap_or(path).to_string_lossy().trim_start_matches('/').to_string();
    let (major, minor) = (rustix::fs::major(seen.rdev()), rustix::fs::minor(seen.rdev()));
    Ok((name, kind | seen.mode() & 0o777, major, minor, look(path, "device")?))
}

fn standard_nodes() -> Result<Vec<Source>> {
    ["null", "zero", "full", "random", "urandom", "tty"]
        .iter()
        .map(|name| look(Path::new(&format!("/dev/{name}")), "device"))
        .collect()
}

/// A namespace of the host's brings the host's view of it, read-only (K26).
fn shared(spec: &Spec) -> Result<Vec<(&'static str, Source)>> {
    let spaces = &spec.spaces;
    let views = [("/proc", spaces.pid), ("/sys", spaces.net), ("/dev/mqueue", spaces.ipc)];
    let foreign = views.into_iter().filter(|(path, space)| *space != Space::New && Path::new(path).exists());
    foreign.map(|(path, _)| Ok((path, look(Path::new(path), "view of the host")?))).collect()
}

/// Offsets, lengths and modes of the caller's files.
type Contents = Vec<(u64, u64, u32)>;

/// The contents of all files of the caller's, one after another in a memfd.
fn files(spec: &Spec) -> Result<(Option<OwnedFd>, Contents)> {
    let mut data = Vec::new();
    let mut offsets = Vec::new();
    for file in &spec.files {
        let start = data.len() as u64;
        let mode = match &file.content {
            Content::Bytes(bytes) => {
                data.extend_from_slice(bytes);
                0o644
            }
            Content::Path(path) => read_source(path, &mut data)?,
        };
        offsets.push((start, data.len() as u64 - start, file.mode.unwrap_or(mode)));
    }
    let file = if spec.files.is_empty() { None } else { Some(memory_file(&data)?) };
    Ok((file, offsets))
}

fn read_source(path: &Path, data: &mut Vec<u8>) -> Result<u32> {
    use std::io::Read;
    let fail = |error: std::io::Error| os("read the file", path, &error);
    let mut source = std::fs::File::open(path).map_err(fail)?;
    let seen = source.metadata().map_err(fail)?;
    if !seen.is_file() {
        return Err(Error::setup_at("read the file", path.display().to_string(), if seen.is_dir() { 21 } else { 22 }));
    }
    source.read_to_end(data).map_err(fail)?;
    Ok(seen.mode() & 0o777)
}

/// Bytes in a memfd that nobody can change any more.
pub fn memory_file(data: &[u8]) -> Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let fail = |errno: rustix::io::Errno| Error::from(("keep data for the container in memory", errno));
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(c"pycontainer-data", flags).map_err(fail)?;
    let mut rest = data;
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&file, rest).map_err(fail)?..];
    }
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).map_err(fail)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)
        .map_err(fail)?;
    Ok(file)
}

fn namespaces(spec: &Spec) -> Result<Vec<(OwnedFd, u64)>> {
    let spaces = &spec.spaces;
    let kinds = [
        (spaces.uts, "uts", CLONE_NEWUTS),
        (spaces.ipc, "ipc", CLONE_NEWIPC),
        (spaces.pid, "pid", CLONE_NEWPID),
        (spaces.net, "net", CLONE_NEWNET),
        (spaces.time, "time", CLONE_NEWTIME),
        (spaces.cgroup, "cgroup", CLONE_NEWCGROUP),
    ];
    let mut found = Vec::new();
    for (space, name, kind) in kinds {
        if let Space::Of(pid) = space {
            let path = format!("/proc/{pid}/ns/{name}");
            let fd = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            found.push((fd.map_err(|errno| Error::setup_at("open the namespace", path, errno.raw_os_error()))?, kind));
        }
    }
    Ok(found)
}

impl Prepared {
    /// (base, count) of the container's ids in the keeper's user namespace.
    pub fn ids(&self, engine: &Engine, spec: &Spec, range: Option<&Range>) -> (u32, u32) {
        match (range, spec.user_space) {
            (Some(range), _) => (range.base, COUNT),
            (None, UserSpace::Map { base, count }) => (base, count),
            (None, _) => (0, if engine.is_root() { 0 } else { engine.ids }),
        }
    }

    /// Makes the writable layer's directory on the disk, where it was asked for (or memory cannot hold it: K23).
    pub fn make_upper(&self, engine: &Engine, spec: &Spec, name: &str, ids: (u32, u32)) -> Result<()> {
        let too_old = engine.facts.rootless && engine.kernel < (6, 6);
        if spec.upper_on_disk || too_old || seams::skips("upper") {
            let mode = match &self.sources.root {
                RootSource::Directory(source) => source.mode & 0o7777,
                RootSource::Host(_) => 0o755,
            };
            let host = matches!(self.sources.root, RootSource::Host(_));
            let store = engine.uppers()?;
            let _ = self.upper.set(upper::make(&store, name, ids.0, mode, host)?);
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
        if let Some(skeleton) = &self.skeleton {
            descriptors.add(role::LAYER, skeleton.as_raw_fd(), 0);
        }
        for (fd, kind) in &self.namespaces {
            descriptors.add(role::NAMESPACE, fd.as_raw_fd(), *kind as i32);
        }
        if let Some(range) = range {
            descriptors.add(role::RANGE_LOCK, range.lock().as_raw_fd(), 0);
        }
        spec.pass_fds.iter().for_each(|fd| descriptors.add(role::PASS, *fd, *fd));
        if let Some(groups) = groups {
            add_groups(groups, descriptors, &mut kept)?;
        }
        Ok(kept)
    }

    pub fn head(&self, engine: &Engine, spec: &Spec, id: u64, flags: u32, ids: (u32, u32)) -> Head {
        let nanoseconds =
            |seconds: Option<f64>| seconds.map_or(NEVER, |seconds| (seconds * 1e9).clamp(0.0, 9e18) as u64);
        Head {
            id,
            flags,
            base: ids.0,
            count: ids.1,
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
        }
    }

    /// The bound on tasks that the user namespace itself holds (5.14).
    fn nproc(&self, engine: &Engine, spec: &Spec) -> u64 {
        // A plain user's keeper has the uid under which its containers' tasks are counted, and is one of them.
        let bound = limits::pids_bound(engine, spec).map(|bound| bound + u64::from(engine.facts.rootless));
        let by_namespace = self.facts.user_namespace && !engine.facts.one_id;
        bound.filter(|_| by_namespace && !seams::skips("pids")).unwrap_or(NEVER)
    }

    /// With one id an rlimit inside is the bound: there is no other id to escape to.
    pub fn one_id_pids(&self, engine: &Engine, spec: &Spec) -> Option<u64> {
        limits::pids_bound(engine, spec).filter(|_| engine.facts.one_id)
    }

    pub fn layout(&self, spec: &Spec) -> Layout {
        let mut sources = self.sources.clone();
        sources.upper_directory = self.upper.get().map(UpperDirectory::path);
        let mut wanted = spec.wanted();
        wanted.read_only &= !seams::skips("read_only");
        let upper_size = if seams::skips("disk") { 0 } else { limits::upper_size(spec) };
        layout::describe(wanted, &self.facts, &sources, upper_size)
    }

    pub fn remember(&self, layout: Layout) {
        let _ = self.layout.set(layout);
    }

    /// `dying`: its container may still be at it for a moment.
    pub fn remove_upper(&mut self, engine: &Engine, dying: bool) {
        if let Some(left) = self.upper.take().and_then(|upper| upper.remove(dying)) {
            engine.keeper.remove(&left.to_string_lossy());
        }
    }

    pub fn explain(&self, spec: &Spec, ended: &Ended) -> Error {
        explain::explain(spec, &self.facts, self.layout.get(), ended)
    }

    pub fn upper_is_on_disk(&self) -> bool {
        self.upper.get().is_some()
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// Descriptors that live until the message has been sent.
pub type Kept = Vec<OwnedFd>;

fn add_groups(groups: &Groups, descriptors: &mut Descriptors, kept: &mut Kept) -> Result<()> {
    use std::os::fd::AsFd;
    if let Some(directory) = groups.into_cgroup() {
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
    let event = groups.oom_event()?;
    keep(role::OOM_CONTROL, event.as_ref().and_then(|_| groups.oom_control()));
    keep(role::OOM_EVENT, event);
    keep(role::CGROUP_KILL, groups.kill_file());
    keep(role::CPU_USAGE, groups.cpu_clock().map(|clock| clock.fd));
    Ok(())
}
