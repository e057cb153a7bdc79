//! What a root file system is described from: the part of a container's specification that mounts, files and namespaces are. Values only.

use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    Bind {
        source: PathBuf,
        read_only: bool,
        owner: Option<u32>,
    },
    Overlay {
        source: PathBuf,
    },
    Tmpfs {
        size: Option<u64>,
        mode: u32,
    },
    /// A directory of the store that builds share: written to, with the ids of the container as in a layer.
    Cache {
        source: PathBuf,
    },
    /// Another image, which nobody writes to.
    Image(ImageRoot),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageRoot {
    /// A root file system in a directory.
    Directory(PathBuf),
    /// Unpacked layers, the lowest first.
    Layers(Vec<PathBuf>),
}

impl ImageRoot {
    /// Where it lies.
    pub fn lowest(&self) -> &Path {
        match self {
            ImageRoot::Directory(path) => path,
            ImageRoot::Layers(layers) => layers.first().map_or(Path::new("/"), |layer| layer),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountKind,
    pub target: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Bytes(Vec<u8>),
    Path(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub target: String,
    pub content: Content,
    pub mode: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    New,
    Host,
    /// The one of the process with this pid.
    Of(i32),
}

/// The namespaces that can be chosen one by one; that of users has rules of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spaces {
    pub cgroup: Space,
    pub ipc: Space,
    pub mnt: Space,
    pub net: Space,
    pub pid: Space,
    pub time: Space,
    pub uts: Space,
}

/// Of one container, lent by whoever keeps the whole specification.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub mounts: &'a [Mount],
    pub files: &'a [File],
    pub spaces: &'a Spaces,
    pub hostname: &'a [u8],
    pub masked_paths: &'a [String],
    pub readonly_paths: &'a [String],
    pub no_new_privileges: bool,
    /// The command has CAP_SYS_ADMIN.
    pub admin: bool,
    pub read_only: bool,
    /// Files that the engine makes in place of what an image has there.
    pub provided: &'a [(String, Vec<u8>)],
    /// A directory that is made where the image has none.
    pub directory: Option<&'a str>,
    pub tty: bool,
    pub window: (u16, u16),
}

impl Wanted<'_> {
    /// Where the engine itself makes a directory or an empty file in the writable layer: mount points, and what `Image.host()` has to
    /// write in.
    pub fn made_by_us(&self, host: bool) -> Vec<String> {
        let standard =
            ["/proc", "/sys", "/dev"].iter().chain(self.read_only.then_some(&["/tmp", "/run"]).into_iter().flatten());
        let directories = super::host::WRITABLE.iter().filter(|_| host).map(|(name, _)| format!("/{name}"));
        let targets = self.mounts.iter().map(|mount| mount.target.clone());
        let provided = self.provided.iter().map(|(path, _)| path.clone());
        let made = standard.map(|path| path.to_string()).chain(directories).chain(targets).chain(provided);
        made.chain(self.directory.map(str::to_string)).collect()
    }
}
