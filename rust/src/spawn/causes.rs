//! Why a machine cannot hold something, and the command that cures it. Words only; python/pycontainer/_causes.py has the same ones,
//! which a test compares, so that an error and `doctor()` never tell two stories.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    pub name: &'static str,
    pub why: &'static str,
    pub fix: &'static str,
}

impl Cause {
    /// As a note of an error that has one text only.
    pub fn note(&self) -> String {
        format!("{}: {}", self.why, self.fix)
    }
}

macro_rules! causes {
    ($($id:ident = $name:literal: $why:literal, $fix:literal;)*) => {
        $(pub const $id: Cause = Cause { name: $name, why: $why, fix: $fix };)*
        pub const ALL: &[Cause] = &[$($id),*];
    };
}

causes! {
    CLONE3_ENOSYS = "clone3_enosys":
        "clone3 answers ENOSYS: an outer seccomp filter refuses it (or the kernel is before Linux 5.3)",
        "docker run --security-opt seccomp=unconfined, or an outer profile that allows clone3";
    CLONE3_EPERM = "clone3_eperm":
        "clone3 answers EPERM: an outer seccomp filter refuses it",
        "docker run --security-opt seccomp=unconfined, or an outer profile that allows clone3";
    UNSHARE_REFUSED = "unshare_refused":
        "an outer seccomp filter refuses unshare",
        "docker run --security-opt seccomp=unconfined, or an outer profile that allows unshare";
    OUTER_FILTER = "outer_filter":
        "this process runs under a seccomp filter that refuses a system call of the road",
        "docker run --security-opt seccomp=unconfined, or an outer profile that allows it";
    CHROOT = "chroot":
        "this process is in a chroot, where the kernel refuses new user namespaces",
        "enter the tree by pivot_root instead: systemd-nspawn -D TREE, or bwrap --bind TREE /";
    USERNS_SYSCTL = "userns_sysctl":
        "sysctl kernel.unprivileged_userns_clone is 0",
        "sysctl -w kernel.unprivileged_userns_clone=1";
    USERNS_APPARMOR = "userns_apparmor":
        "AppArmor restricts user namespaces of plain users (sysctl kernel.apparmor_restrict_unprivileged_userns is 1)",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with `userns,` for this interpreter";
    NO_CGROUP_NAMESPACES = "max_cgroup_namespaces":
        "sysctl user.max_cgroup_namespaces is 0", "sysctl -w user.max_cgroup_namespaces=10000";
    NO_IPC_NAMESPACES = "max_ipc_namespaces":
        "sysctl user.max_ipc_namespaces is 0", "sysctl -w user.max_ipc_namespaces=10000";
    NO_MNT_NAMESPACES = "max_mnt_namespaces":
        "sysctl user.max_mnt_namespaces is 0", "sysctl -w user.max_mnt_namespaces=10000";
    NO_NET_NAMESPACES = "max_net_namespaces":
        "sysctl user.max_net_namespaces is 0", "sysctl -w user.max_net_namespaces=10000";
    NO_PID_NAMESPACES = "max_pid_namespaces":
        "sysctl user.max_pid_namespaces is 0", "sysctl -w user.max_pid_namespaces=10000";
    NO_TIME_NAMESPACES = "max_time_namespaces":
        "sysctl user.max_time_namespaces is 0", "sysctl -w user.max_time_namespaces=10000";
    NO_USER_NAMESPACES = "max_user_namespaces":
        "sysctl user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=10000";
    NO_UTS_NAMESPACES = "max_uts_namespaces":
        "sysctl user.max_uts_namespaces is 0", "sysctl -w user.max_uts_namespaces=10000";
    NAMESPACES_FULL = "namespaces_full":
        "the kernel has no room for more namespaces: a limit of user.max_*_namespaces, or 32 levels of nesting",
        "end some containers, or raise sysctl user.max_*_namespaces";
    NESTED = "nested":
        "this process seems to be inside a container, whose engine refuses new namespaces",
        "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined; in a container of ours security=Security(seccomp=\"unconfined\", landlock=False, masked_paths=(), readonly_paths=())";
    USERNS_REFUSED = "userns_refused":
        "the kernel refuses new user namespaces (EPERM), as a security module or a chroot does",
        "look for its reason: dmesg | grep -i -e apparmor -e selinux -e userns";
    MASKED_PROC = "masked_proc":
        "the kernel refuses a fresh /proc where this process's own is partly masked, as in another container",
        "docker run --security-opt systempaths=unconfined; podman run --security-opt unmask=ALL";
    MASKED_SYS = "masked_sys":
        "the kernel refuses a fresh /sys where this process's own is read-only, masked or absent",
        "mount -o remount,rw /sys; docker run --security-opt systempaths=unconfined";
    NO_OVERLAY = "no_overlay":
        "this kernel has no overlay file system",
        "modprobe overlay";
    NO_FUSE_PROGRAM = "no_fuse_program":
        "fuse-overlayfs is in none of /usr/bin, /bin and /usr/local/bin",
        "apt-get install fuse-overlayfs";
    NO_FUSE_DEVICE = "no_fuse_device":
        "this process cannot open /dev/fuse",
        "modprobe fuse, or within a container: docker run --device /dev/fuse";
    NO_IDMAP = "no_idmap":
        "this file system cannot be idmapped (overlayfs, FUSE, NFS, or a kernel before 5.12)",
        "copy it to ext4, xfs, btrfs or (6.3) tmpfs, or set security=Security(user_namespace=\"host\")";
    MEMFD_NOEXEC = "memfd_noexec":
        "memfds cannot be executed here (sysctl vm.memfd_noexec is 2)",
        "sysctl -w vm.memfd_noexec=1, or reinstall the wheel, which carries the keeper as a file";
    NO_LANDLOCK = "no_landlock":
        "this kernel has no Landlock ABI 2",
        "Linux 5.19 with landlock in the lsm= list";
    ONE_ID = "one_id":
        "this user namespace has one id, 0",
        "give this user a range in /etc/subuid and /etc/subgid and install newuidmap (package uidmap)";
    NO_WAY_BACK = "no_way_back":
        "who enters another namespace must be able to come back, and this process has no power over its own (CAP_SYS_ADMIN in the first user namespace)",
        "run as root";
    NO_SYS_RESOURCE = "no_sys_resource":
        "this process lacks CAP_SYS_RESOURCE: hard limits cannot be raised, oom_score_adj not lowered",
        "run it with that capability: docker run --cap-add SYS_RESOURCE, or AmbientCapabilities=CAP_SYS_RESOURCE";
}
