//! A frozen `_Spec` of Python becomes a `Spec`: one read of each attribute, nothing checked that Python has checked.

use crate::cgroup::{Cap, IoRule};
use crate::security::maps::Line;
use crate::spawn::seams;
use crate::spawn::spec::{
    Content, File, Filter, ImageRoot, Limits, Mount, MountKind, Port, Root, Space, Spaces, Spec, Stream, UserSpace, Who,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyAny;
use std::collections::HashMap;
use std::path::PathBuf;

struct Attributes<'a, 'py>(&'a Bound<'py, PyAny>);

impl<'py> Attributes<'_, 'py> {
    fn get<T>(&self, name: &str) -> PyResult<T>
    where
        T: for<'a> FromPyObject<'a, 'py>,
        for<'a> <T as FromPyObject<'a, 'py>>::Error: Into<PyErr>,
    {
        self.0.getattr(name)?.extract::<T>().map_err(Into::into)
    }
}

pub fn read(object: &Bound<'_, PyAny>) -> PyResult<Spec> {
    let from = Attributes(object);
    Ok(Spec {
        argv: from.get("argv")?,
        env: from.get("env")?,
        set_home: from.get("set_home")?,
        path: from.get("path")?,
        cwd: from.get("cwd")?,
        user: who(from.get("user")?),
        group: who(from.get("group")?),
        groups: from.get::<Vec<String>>("groups")?.into_iter().map(|group| who(Some(group))).collect(),
        umask: from.get("umask")?,
        hostname: from.get("hostname")?,
        root: root(&from)?,
        mounts: mounts(&from)?,
        files: from.get::<Vec<FileTuple>>("files")?.into_iter().map(file).collect(),
        provided: from.get("provided")?,
        directory: from.get("directory")?,
        spaces: seams::spaces(spaces(&from)?),
        ports: from.get::<Vec<PortTuple>>("ports")?.into_iter().map(port).collect(),
        capabilities: from.get("capabilities")?,
        filter: filter(from.get("seccomp")?),
        no_new_privileges: from.get("no_new_privileges")?,
        user_space: seams::user_space(user_space(from.get("user_namespace")?)),
        landlock: from.get("landlock")?,
        masked_paths: from.get("masked_paths")?,
        readonly_paths: from.get("readonly_paths")?,
        devices: from.get("devices")?,
        limits: limits(&from)?,
        read_only: from.get("read_only")?,
        upper_on_disk: from.get("upper_on_disk")?,
        pid1: from.get("pid1")?,
        tty: from.get("tty")?,
        window: from.get("window")?,
        stdin: stream(from.get("stdin")?)?,
        stdout: stream(from.get("stdout")?)?,
        stderr: stream(from.get("stderr")?)?,
        input: from.get::<Option<Vec<u8>>>("input")?,
        pass_fds: from.get("pass_fds")?,
        timeout: from.get("timeout")?,
        degrade: from.get("degrade")?,
        handle: from.get("handle")?,
        hold: from.get("hold")?,
        news: from.get("news")?,
    })
}

/// Another command of a container: what is its own replaces what the first one has.
pub fn read_beside(object: &Bound<'_, PyAny>, first: &Spec) -> PyResult<Spec> {
    let from = Attributes(object);
    let mut limits = first.limits.clone();
    (limits.output, limits.output_kills) = (from.get("output")?, from.get("output_kills")?);
    Ok(Spec {
        argv: from.get("argv")?,
        env: from.get("env")?,
        set_home: from.get("set_home")?,
        path: from.get("path")?,
        cwd: from.get("cwd")?,
        user: who(from.get("user")?),
        group: who(from.get("group")?),
        groups: Vec::new(),
        tty: from.get("tty")?,
        window: from.get("window")?,
        stdin: stream(from.get("stdin")?)?,
        stdout: stream(from.get("stdout")?)?,
        stderr: stream(from.get("stderr")?)?,
        input: from.get::<Option<Vec<u8>>>("input")?,
        pass_fds: Vec::new(),
        timeout: from.get("timeout")?,
        handle: from.get("handle")?,
        hold: false,
        news: -1,
        limits,
        ..first.clone()
    })
}

/// Digits are a number, and nothing else is (CVE-2016-3697): the Python side has checked the grammar and the range.
fn who(text: Option<String>) -> Who {
    match text {
        None => Who::Unsaid,
        // Digits only: `parse` alone takes "+1" for a number too, and what is no number is a name (CVE-2026-30892).
        Some(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map_or(Who::Name(text), Who::Number)
        }
        Some(text) => Who::Name(text),
    }
}

fn root(from: &Attributes<'_, '_>) -> PyResult<Root> {
    let (kind, directory, directories, writable): (String, PathBuf, Vec<PathBuf>, bool) = from.get("root")?;
    Ok(match kind.as_str() {
        "host" => Root::Host { directories, writable },
        "view" => Root::View,
        "layers" => Root::Layers(directories),
        _ => Root::Directory(directory),
    })
}

/// (kind, target, source, read_only, owner, size, mode)
type MountTuple = (String, String, PathBuf, bool, Option<u32>, Option<u64>, u32);
/// By its target, an image that is mounted: a directory, or where that is empty layers.
type Mounted = HashMap<String, (PathBuf, Vec<PathBuf>)>;

fn mounts(from: &Attributes<'_, '_>) -> PyResult<Vec<Mount>> {
    let mut mounted: Mounted = from.get("mounted")?;
    from.get::<Vec<MountTuple>>("mounts")?.into_iter().map(|one| mount(one, &mut mounted)).collect()
}

fn mount((kind, target, source, read_only, owner, size, mode): MountTuple, mounted: &mut Mounted) -> PyResult<Mount> {
    let kind = match kind.as_str() {
        "bind" => MountKind::Bind { source, read_only, owner },
        "overlay" => MountKind::Overlay { source },
        "tmpfs" => MountKind::Tmpfs { size, mode },
        "cache" => MountKind::Cache { source },
        "image" => MountKind::Image(match mounted.remove(&target).unwrap_or_default() {
            (directory, layers) if directory.as_os_str().is_empty() => ImageRoot::Layers(layers),
            (directory, _) => ImageRoot::Directory(directory),
        }),
        other => return Err(PyValueError::new_err(format!("mounts: unknown kind {other:?}"))),
    };
    Ok(Mount { kind, target })
}

/// (target, data, path, mode): data or path.
type FileTuple = (String, Option<Vec<u8>>, Option<PathBuf>, Option<u32>);

fn file((target, data, path, mode): FileTuple) -> File {
    let content = data.map_or_else(|| Content::Path(path.unwrap_or_default()), Content::Bytes);
    File { target, content, mode }
}

/// (name, inside, protocol, outside)
type PortTuple = (String, u16, u8, u16);

fn port((name, inside, protocol, outside): PortTuple) -> Port {
    Port { name, inside, protocol, outside }
}

fn spaces(from: &Attributes<'_, '_>) -> PyResult<Spaces> {
    let (cgroup, ipc, mnt, net, pid, time, uts): (i32, i32, i32, i32, i32, i32, i32) = from.get("namespaces")?;
    let space = |code| match code {
        0 => Space::New,
        -1 => Space::Host,
        pid => Space::Of(pid),
    };
    Ok(Spaces {
        cgroup: space(cgroup),
        ipc: space(ipc),
        mnt: space(mnt),
        net: space(net),
        pid: space(pid),
        time: space(time),
        uts: space(uts),
    })
}

fn filter(program: Option<Vec<u8>>) -> Filter {
    match program {
        None => Filter::Default,
        Some(program) if program.is_empty() => Filter::Unconfined,
        Some(program) => Filter::Custom(program),
    }
}

/// No lines are none of its own.
fn user_space(said: Option<Vec<(u32, u32, u32)>>) -> UserSpace {
    let line = |(inside, outside, count)| Line { inside, outside, count };
    match said {
        None => UserSpace::Auto,
        Some(lines) if lines.is_empty() => UserSpace::Host,
        Some(lines) => UserSpace::Map(lines.into_iter().map(line).collect()),
    }
}

fn stream((kind, fd): (String, i32)) -> PyResult<Stream> {
    Ok(match kind.as_str() {
        "null" => Stream::Null,
        "capture" => Stream::Capture,
        "pipe" => Stream::Pipe,
        "log" => Stream::Log,
        "stdout" => Stream::Stdout,
        "fd" => Stream::Fd(fd),
        "terminal" => Stream::Terminal(fd),
        other => return Err(PyValueError::new_err(format!("unknown stream {other:?}"))),
    })
}

fn cap(value: Option<f64>) -> Option<Cap> {
    value.map(|value| if value.is_infinite() { Cap::Max } else { Cap::Value(value as u64) })
}

/// ((major, minor), read_bps, write_bps, read_iops, write_iops)
type IoTuple = ((u32, u32), Option<u64>, Option<u64>, Option<u64>, Option<u64>);

pub fn read_limits(object: &Bound<'_, PyAny>) -> PyResult<Limits> {
    limits(&Attributes(object))
}

fn limits(from: &Attributes<'_, '_>) -> PyResult<Limits> {
    let io: Vec<IoTuple> = from.get("io")?;
    let rule = |(device, read_bps, write_bps, read_iops, write_iops)| IoRule {
        device,
        read_bps,
        write_bps,
        read_iops,
        write_iops,
    };
    let group = crate::cgroup::Limits {
        memory: cap(from.get("memory")?),
        swap: cap(from.get("swap")?),
        memory_high: cap(from.get("memory_high")?),
        cpus: from.get("cpus")?,
        cpu_weight: from.get("cpu_weight")?,
        cpuset: from.get("cpuset")?,
        pids: cap(from.get("pids")?),
        io: io.into_iter().map(rule).collect(),
        io_weight: from.get("io_weight")?,
        oom_group: from.get("oom_group")?,
        ..Default::default()
    };
    Ok(Limits {
        group,
        cpu_time: from.get("cpu_time")?,
        wall_time: from.get("wall_time")?,
        disk: from.get("disk")?,
        output: from.get("output")?,
        output_kills: from.get("output_kills")?,
        rlimits: from.get("rlimits")?,
        oom_score_adj: from.get("oom_score_adj")?,
        pids_unbounded: from.get::<Option<f64>>("pids")?.is_some_and(f64::is_infinite),
    })
}
