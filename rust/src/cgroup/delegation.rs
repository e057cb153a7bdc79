//! Where groups may be made on cgroup v2, where a group with processes cannot give controllers to its children. Moves no process.

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::files::Directory;
use super::parse::{self, Mount};
use super::plan::Missing;
use super::{Controller, Version};

/// The group as root under which all engines of the machine make theirs. It stays: it is empty, and another engine may be about to use it.
const OWN: &str = "pycontainer";

/// A place for groups on the unified hierarchy.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) parent: Directory,
    /// The group above, where controllers have to be turned on first.
    pub(super) above: Option<Directory>,
    /// What groups made here can be given.
    pub(super) controllers: Vec<Controller>,
    pub(super) remark: String,
    /// Why the other controllers are not there.
    pub(super) missing: Missing,
}

/// The unified hierarchy as this program sees it.
#[derive(Debug)]
pub(super) struct Unified<'a> {
    pub(super) mount: &'a Mount,
    /// The program's own group.
    pub(super) own: &'a str,
    pub(super) root: bool,
}

/// The first of: the directory in PYCONTAINER_CGROUP; the group above ours, if it was delegated and we sit in a leaf of it; as root
/// a group under the top; our own group, which can hold no limit but can count, kill and freeze.
pub(super) fn find(unified: &Unified, wanted: Option<&str>) -> Result<Found, Missing> {
    if let Some(path) = wanted {
        return named(path);
    }
    let top = unified.open("")?;
    if given(&top, "cgroup.controllers").is_empty() {
        return unified.bare().map_err(boot);
    }
    let missing = match unified.delegated() {
        Ok(found) => return Ok(found),
        Err(missing) => missing,
    };
    let missing = if unified.root { unified.under_top(top) } else { Err(missing) };
    missing.or_else(|missing| {
        let found = unified.bare()?;
        // Delegated to us, but we sit in it: that is what has to change, whatever the groups above are.
        let ours = !unified.root && granted(&found.parent);
        Ok(if ours { found } else { Found { missing, ..found } })
    })
}

impl Unified<'_> {
    /// A group by its path below the mount.
    fn open(&self, below: &str) -> Result<Directory, Missing> {
        let path = format!("{}/{below}", self.mount.point);
        Directory::open(&path, Version::V2).map_err(|errno| refusal(&path, errno, self.root))
    }

    fn own(&self) -> Result<&str, Missing> {
        let cause = || format!("the program's group {} is not below the cgroup2 mount {}", self.own, self.mount.point);
        parse::below(&self.mount.root, self.own).ok_or_else(|| Missing::new(cause(), cure(self.root)))
    }

    /// Our own group, for what needs no controller.
    fn bare(&self) -> Result<Found, Missing> {
        let parent = self.open(self.own()?)?;
        parent.writable().map_err(|errno| refusal(&parent.path, errno, self.root))?;
        let cause = format!("{} has this program in it, so it gives no controllers", parent.path);
        let missing = Missing::new(cause, cure(self.root));
        Ok(Found { parent, above: None, controllers: Vec::new(), remark: String::new(), missing })
    }

    fn delegated(&self) -> Result<Found, Missing> {
        let own = self.own()?;
        let missing = |cause| Missing::new(cause, cure(self.root));
        let Some((above, _)) = own.rsplit_once('/').or((!own.is_empty()).then_some(("", own))) else {
            return Err(missing(format!("{} is the topmost group that can be seen", self.own)));
        };
        let parent = self.open(above)?;
        parent.writable().map_err(|errno| refusal(&parent.path, errno, self.root))?;
        let delegated = granted(&parent) && (!self.root || marked(&parent, above));
        if !delegated {
            return Err(missing(format!("{} was not delegated to this program", parent.path)));
        }
        roomy(&parent).map_err(missing)?;
        Ok(found(parent, String::new(), self.root))
    }

    fn under_top(&self, top: Directory) -> Result<Found, Missing> {
        roomy(&top).map_err(|cause| Missing::new(cause, cure(self.root)))?;
        let controllers = given(&top, "cgroup.controllers");
        match top.make(OWN) {
            Ok(_) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(refusal(&format!("{}/{OWN}", top.path), errno, self.root)),
        }
        let outside = !matches!(self.own, "/" | "");
        let remark = if outside { format!("outside the job's limits, those of {}", self.own) } else { String::new() };
        let parent = self.open(OWN)?;
        parent.writable().map_err(|errno| refusal(&parent.path, errno, self.root))?;
        let parent = found(parent, remark, self.root);
        Ok(Found { above: Some(top), controllers, ..parent })
    }
}

fn found(parent: Directory, remark: String, root: bool) -> Found {
    let controllers = given(&parent, "cgroup.controllers");
    let fix =
        if root { "a kernel that has it" } else { "systemctl edit user@.service: Delegate=cpu cpuset io memory pids" };
    let missing = Missing::new(format!("{} was not given this controller", parent.path), fix);
    Found { parent, above: None, controllers, remark, missing }
}

/// What the user names is used or refused, never replaced.
fn named(path: &str) -> Result<Found, Missing> {
    let fix = "name an empty, writable group of a cgroup2 mount in PYCONTAINER_CGROUP, or unset it";
    let missing = |cause: String| Missing::new(format!("PYCONTAINER_CGROUP: {cause}"), fix);
    if !path.starts_with('/') {
        return Err(missing(format!("{path:?} is not an absolute path")));
    }
    let because = |errno| match errno {
        Errno::NODEV => missing(format!("{path} is no group of cgroup v2")),
        errno => missing(refusal(path, errno, false).cause),
    };
    let parent = Directory::open(path, Version::V2).map_err(because)?;
    parent.writable().map_err(because)?;
    let usable = roomy(&parent).and_then(|()| {
        let text = format!("{path}/cgroup.subtree_control is not writable");
        if granted(&parent) { Ok(()) } else { Err(text) }
    });
    let mut found = found(parent, String::new(), false);
    if let Err(cause) = usable {
        found.controllers = given(&found.parent, "cgroup.subtree_control");
        found.missing = missing(cause);
    }
    Ok(found)
}

/// Those of our controllers that a file of names lists.
fn given(directory: &Directory, file: &str) -> Vec<Controller> {
    let text = directory.read(file).unwrap_or_default();
    let listed =
        |c: &Controller| c.v2_name().is_some_and(|name| text.split_ascii_whitespace().any(|word| word == name));
    Controller::ALL.into_iter().filter(listed).collect()
}

/// A plain user can use what it may write: cgroup-v2, "Delegation Containment".
fn granted(directory: &Directory) -> bool {
    let may = |file| directory.file(file, OFlags::WRONLY).is_ok();
    directory.writable().is_ok() && may("cgroup.procs") && may("cgroup.subtree_control")
}

/// Root may write everywhere, so only a mark tells that a group is not somebody else's: systemd's attribute on what it delegated, or
/// being the top of a cgroup namespace (the true top has no cgroup.type).
fn marked(directory: &Directory, below: &str) -> bool {
    let attribute = |name| {
        let mut value = [0u8; 8];
        matches!(rustix::fs::getxattr(directory.path.as_str(), name, &mut value[..]), Ok(1) if value[0] == b'1')
    };
    let namespace = below.is_empty() && directory.read("cgroup.type").is_some();
    namespace || attribute("trusted.delegate") || attribute("user.delegate")
}

/// Only the true top may have both processes and controllers for its children.
fn roomy(directory: &Directory) -> Result<(), String> {
    let top = directory.read("cgroup.type").is_none();
    let processes = directory.read("cgroup.procs").is_none_or(|text| !text.is_empty());
    if top || !processes { Ok(()) } else { Err(format!("{} has processes of its own", directory.path)) }
}

/// How a user gets a group of its own, with the interpreter in a leaf.
pub(super) fn cure(root: bool) -> String {
    let user = if root { "" } else { "--user " };
    format!(
        "systemd-run {user}--scope -p Delegate=yes sh -c 'g=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); \
         mkdir $g/host; echo $$ > $g/host/cgroup.procs; exec python3 ...'"
    )
}

/// While controllers are on version 1, a plain user is not helped by delegation alone: version 1 cannot delegate safely, cgroups(7).
pub(super) fn boot(missing: Missing) -> Missing {
    let helpless = missing.fix.starts_with("systemd-run");
    let fix = "run as root, or boot with systemd.unified_cgroup_hierarchy=1 and then";
    if helpless { Missing { fix: format!("{fix} {}", missing.fix), ..missing } } else { missing }
}

/// Why a directory cannot take groups.
pub(super) fn refusal(path: &str, errno: Errno, root: bool) -> Missing {
    let uid = rustix::process::geteuid().as_raw();
    match errno {
        Errno::ROFS => Missing::new(
            format!("{path} is mounted read-only"),
            "give the outer container its cgroups: docker run --privileged --cgroupns=private, or mount -o remount,rw",
        ),
        Errno::ACCESS | Errno::PERM => Missing::new(format!("{path} is not writable for uid {uid}"), cure(root)),
        Errno::NODEV => Missing::new(format!("something else is mounted over {path}"), "unmount it"),
        errno => Missing::new(format!("{path}: {}", std::io::Error::from(errno)), cure(root)),
    }
}
