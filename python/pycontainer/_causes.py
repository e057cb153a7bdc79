"""Why a machine cannot hold something, and the command that cures it: one table for errors' notes and doctor()'s rows.

Words only. The native side has those that its errors name (rust/src/spawn/causes.rs); a test compares the two.
"""

from __future__ import annotations

from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeAlias

    Cause: TypeAlias = tuple[str, str]

_CLONE3_FIX = "docker run --security-opt seccomp=unconfined, or an outer profile that allows clone3"
_SYS_FIX = "docker run --security-opt systempaths=unconfined"

# What errors of the native side say, by name: (why, fix).
NATIVE: dict[str, Cause] = {
    "clone3_enosys": (
        "clone3 answers ENOSYS: an outer seccomp filter refuses it (or the kernel is before Linux 5.3)",
        _CLONE3_FIX,
    ),
    "clone3_eperm": ("clone3 answers EPERM: an outer seccomp filter refuses it", _CLONE3_FIX),
    "unshare_refused": (
        "an outer seccomp filter refuses unshare",
        "docker run --security-opt seccomp=unconfined, or an outer profile that allows unshare",
    ),
    "outer_filter": (
        "this process runs under a seccomp filter that refuses a system call of the road",
        "docker run --security-opt seccomp=unconfined, or an outer profile that allows it",
    ),
    "chroot": (
        "this process is in a chroot, where the kernel refuses new user namespaces",
        "enter the tree by pivot_root instead: systemd-nspawn -D TREE, or bwrap --bind TREE /",
    ),
    "userns_sysctl": (
        "sysctl kernel.unprivileged_userns_clone is 0",
        "sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    "userns_apparmor": (
        "AppArmor restricts user namespaces of plain users (sysctl kernel.apparmor_restrict_unprivileged_userns is 1)",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, "
        "or an AppArmor profile with `userns,` for this interpreter",
    ),
    **{
        f"max_{kind}_namespaces": (
            f"sysctl user.max_{kind}_namespaces is 0",
            f"sysctl -w user.max_{kind}_namespaces=10000",
        )
        for kind in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
    },
    "namespaces_full": (
        "the kernel has no room for more namespaces: a limit of user.max_*_namespaces, or 32 levels of nesting",
        "end some containers, or raise sysctl user.max_*_namespaces",
    ),
    "nested": (
        "this process seems to be inside a container, whose engine refuses new namespaces",
        "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
        "--security-opt systempaths=unconfined; in a container of ours security="
        'Security(seccomp="unconfined", landlock=False, masked_paths=(), readonly_paths=())',
    ),
    "userns_refused": (
        "the kernel refuses new user namespaces (EPERM), as a security module or a chroot does",
        "look for its reason: dmesg | grep -i -e apparmor -e selinux -e userns",
    ),
    "masked_proc": (
        "the kernel refuses a fresh /proc where this process's own is partly masked, as in another container",
        f"{_SYS_FIX}; podman run --security-opt unmask=ALL",
    ),
    "masked_sys": (
        "the kernel refuses a fresh /sys where this process's own is read-only, masked or absent",
        f"mount -o remount,rw /sys; {_SYS_FIX}",
    ),
    "no_overlay": ("this kernel has no overlay file system", "modprobe overlay"),
    "no_fuse_program": (
        "fuse-overlayfs is in none of /usr/bin, /bin and /usr/local/bin",
        "apt-get install fuse-overlayfs",
    ),
    "no_fuse_device": (
        "this process cannot open /dev/fuse",
        "modprobe fuse, or within a container: docker run --device /dev/fuse",
    ),
    "no_idmap": (
        "this file system cannot be idmapped (overlayfs, FUSE, NFS, or a kernel before 5.12)",
        'copy it to ext4, xfs, btrfs or (6.3) tmpfs, or set security=Security(user_namespace="host")',
    ),
    "memfd_noexec": (
        "memfds cannot be executed here (sysctl vm.memfd_noexec is 2)",
        "sysctl -w vm.memfd_noexec=1, or reinstall the wheel, which carries the keeper as a file",
    ),
    "no_landlock": ("this kernel has no Landlock ABI 2", "Linux 5.19 with landlock in the lsm= list"),
    "one_id": (
        "this user namespace has one id, 0",
        "give this user a range in /etc/subuid and /etc/subgid and install newuidmap (package uidmap)",
    ),
    "no_way_back": (
        "who enters another namespace must be able to come back, and this process has no power over its own "
        "(CAP_SYS_ADMIN in the first user namespace)",
        "run as root",
    ),
    "no_sys_resource": (
        "this process lacks CAP_SYS_RESOURCE: hard limits cannot be raised, oom_score_adj not lowered",
        "run it with that capability: docker run --cap-add SYS_RESOURCE, or AmbientCapabilities=CAP_SYS_RESOURCE",
    ),
}

# What only doctor() looks at closely enough to say.
DOCTOR: dict[str, Cause] = {
    "no_newuidmap": (
        "newuidmap and newgidmap are not installed: containers have one id, 0",
        "apt-get install uidmap (elsewhere shadow-utils or shadow-uidmap)",
    ),
    "no_subuid_range": (
        "this user has no range in /etc/subuid and /etc/subgid: containers have one id, 0",
        "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER",
    ),
    "newuidmap_failed": (
        "newuidmap cannot use this user's range: containers have one id, 0",
        "give newuidmap and newgidmap their set-user-ID bit or capabilities back: reinstall uidmap; no no_new_privs",
    ),
    "landlock_filtered": (
        "an outer seccomp filter refuses Landlock, or the kernel was built without it",
        "docker run --security-opt seccomp=unconfined, or a kernel with CONFIG_SECURITY_LANDLOCK",
    ),
    "landlock_off": ("Landlock is built in and not switched on", "boot with landlock in the kernel's lsm= list"),
    "hybrid": (
        "the controllers are on cgroup v1 (hybrid), which cannot hold memory_high, io and pressure as v2 does",
        "boot with systemd.unified_cgroup_hierarchy=1",
    ),
}

CAUSES: dict[str, Cause] = NATIVE | DOCTOR


def find(text: str) -> Cause | None:
    """The cause whose words an error's text has."""
    return next((cause for cause in CAUSES.values() if cause[0] in text), None)


def too_old(feature: str, since: tuple[int, int], release: str) -> Cause:
    """The cause where this kernel is older than a feature of it that is needed."""
    first = f"{since[0]}.{since[1]}"
    return f"{feature} needs Linux {first}, and this is {release}", f"Linux {first} or later"
