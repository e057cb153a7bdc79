"""Masks, read-only paths, control groups and sysctls: they hold against container root, with CAP_SYS_ADMIN too."""

from __future__ import annotations

import glob
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from hostile.attacks import EPERM, PRELUDE, inside, shell, without_engine

ADMIN = pc.Security(capabilities=pc.DEFAULT_CAPABILITIES | {"SYS_ADMIN"})
BOTH = pytest.mark.parametrize("security", [pc.Security(), ADMIN], ids=["default", "sys_admin"])

# statmount(2) of what lies at a path: the mount's and the super block's read-only bits, the magic, the root's kind.
STATMOUNT = """
def mount_at(path):
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    seen = ctypes.create_string_buffer(256)
    if call(332, fd, b'', 0x1000, 0x4000, ctypes.addressof(seen)) < 0:  # statx, STATX_MNT_ID_UNIQUE
        raise OSError(ctypes.get_errno(), path)
    identity = struct.unpack_from('=Q', seen, 144)[0]
    request = ctypes.create_string_buffer(struct.pack('=IIQQ', 24, 0, identity, 3))
    answer = ctypes.create_string_buffer(512)
    if call(457, ctypes.addressof(request), ctypes.addressof(answer), 512, 0) < 0:
        raise OSError(ctypes.get_errno(), 'statmount')
    _, _, _, _, _, magic, sb_flags = struct.unpack_from('=IIQIIQI', answer)
    attributes = struct.unpack_from('=Q', answer, 64)[0]
    facts = os.stat(path, follow_symlinks=False)
    return {'magic': magic, 'read_only': bool((sb_flags | attributes) & 1), 'directory': stat.S_ISDIR(facts.st_mode),
        'device': [os.major(facts.st_rdev), os.minor(facts.st_rdev)], 'dev': facts.st_dev}
tell({path: mount_at(path) for path in json.loads(sys.argv[1]) if os.path.lexists(path)})
"""
TMPFS, PROC, SYSFS = 0x01021994, 0x9FA0, 0x62656572


@pytest.mark.requires("kernel>=6.8")
@BOTH
def test_ghsa_3q8j_pf29_vwv8_walls_by_statmount(security: pc.Security) -> None:
    """Also CVE-2020-8694, GHSA-jq35-85cj-fj4p and GHSA-6fw5-f8r9-fgfm (row 126: /sys/devices/virtual/powercap,
    /proc/interrupts, thermal_throttle): each mask and each read-only path, as the kernel describes it.
    """
    row_126 = {"/sys/devices/virtual/powercap", "/proc/interrupts"}
    assert row_126 <= set(security.masked_paths)
    throttles = glob.glob("/sys/devices/system/cpu/cpu*/thermal_throttle")
    masked = [*security.masked_paths, *throttles]
    seen = inside(STATMOUNT, json.dumps([*masked, *security.readonly_paths]), security=security)
    assert len(seen) >= 7
    hidden = {path: facts for path, facts in seen.items() if path in masked}
    for path, facts in hidden.items():
        assert facts["magic"] == TMPFS, path
        assert facts["read_only"] if facts["directory"] else facts["device"] == [1, 3], (path, facts)
    # One shared empty directory: a mount per CPU would be a storm (runc 1.3.6). Before 6.15 each has its own.
    directories = {facts["dev"] for facts in hidden.values() if facts["directory"]}
    assert len(directories) <= 1 or os.uname().release < "6.15"
    for path in security.readonly_paths:
        assert path not in seen or seen[path]["read_only"], path


@pytest.mark.requires("kernel>=6.8", "seams")
def test_control_of_ghsa_3q8j_pf29_vwv8_read_only_paths_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same look, with the step left out: not one of them is read-only by itself."""
    monkeypatch.setenv("PYCONTAINER_SEAM", "readonly_paths")
    seen = inside(STATMOUNT, json.dumps(pc.Security().readonly_paths))
    assert len(seen) >= 4
    assert not [path for path, facts in seen.items() if facts["read_only"]]


@pytest.mark.requires("seams")
def test_control_of_the_masks_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCONTAINER_SEAM", "masked_paths")
    assert inside(
        "tell(os.path.getsize('/proc/timer_list') or len(attempt(lambda: open('/proc/interrupts').read())[1]) > 20)"
    )


REMOUNTS = """
MS = {'RDONLY': 1, 'REMOUNT': 32, 'BIND': 4096, 'REC': 16384}
def mount(source, target, kind, flags, data=0):
    return call(165, source, target, kind, flags, data)
attr = ctypes.create_string_buffer(struct.pack('=QQQQ', 0, 1 | 2 | 4, 0, 0))  # clear RDONLY, NOSUID, NODEV
answers = {}
for target in (b'/place', b'/proc/sys', b'/proc/keys', b'/sys', b'/', b'/usr'):
    name = target.decode()
    answers['remount ' + name] = mount(b'none', target, b'', MS['REMOUNT'] | MS['BIND'])
    answers['remount sb ' + name] = mount(b'none', target, b'', MS['REMOUNT'])
    answers['setattr ' + name] = call(442, -100, target, 0, ctypes.addressof(attr), 32)
    answers['setattr recursive ' + name] = call(442, -100, target, 0x8000, ctypes.addressof(attr), 32)
    answers['umount ' + name] = call(166, target, 2)
os.makedirs('/run/again', exist_ok=True)
for again in (b'/place', b'/proc', b'/sys'):
    got = mount(again, b'/run/again', b'', MS['BIND'] | MS['REC'])
    if got == 0:
        answers['again ' + again.decode()] = mount(b'none', b'/run/again', b'', MS['REMOUNT'] | MS['BIND'])
        answers['again umount mask ' + again.decode()] = call(166, b'/run/again/keys', 2) if again == b'/proc' else -1
        call(166, b'/run/again', 2)
fd = call(428, -100, b'/place', 1 | 0x8000)
if fd >= 0:
    answers['open_tree'] = call(442, fd, b'', 0x1000, ctypes.addressof(attr), 32)
    answers['write by open_tree'] = call(257, fd, b'file', 1)
answers['write'] = call(257, -100, b'/place/file', 1)
for kind in (b'proc', b'sysfs'):
    os.makedirs('/run/' + kind.decode(), exist_ok=True)
    if mount(b'none', b'/run/' + kind, kind, 0) == 0:
        inner = {b'proc': b'/run/proc/sys/kernel/core_pattern',
            b'sysfs': b'/run/sysfs/kernel/mm/transparent_hugepage/enabled'}[kind]
        answers['new ' + kind.decode()] = call(257, -100, inner, 1)
tell(answers)
"""


@BOTH
def test_cve_2026_46695_read_only_bind_stays_so(canary: Path, security: pc.Security) -> None:
    """Remount, mount_setattr, umount of what hides, a second bind, a tree of one's own: refused. With CAP_SYS_ADMIN by
    the nested user namespace, which locks what it inherits; its mounts succeed otherwise, as the counts below show.
    """
    answers = inside(REMOUNTS, mounts=[pc.Mount.bind(canary, "/place", read_only=True)], security=security)
    done = {name: answer for name, answer in answers.items() if answer >= 0}
    if security is ADMIN:
        # A remount that keeps every locked flag changes nothing; it is the one that may say yes.
        done = {name: answer for name, answer in done.items() if not name.startswith(("remount /", "again "))}
    assert done == {}
    assert answers["write"] < 0


def test_cve_2026_46695_control_sys_admin_does_mount() -> None:
    """The same calls on mounts of one's own work with CAP_SYS_ADMIN: the refusals are the locks', not the filter's."""
    answers = inside(
        """
        os.makedirs('/run/own', exist_ok=True)
        made = call(165, b'none', b'/run/own', b'tmpfs', 1, 0)
        attr = ctypes.create_string_buffer(struct.pack('=QQQQ', 0, 1, 0, 0))
        again = call(442, -100, b'/run/own', 0, ctypes.addressof(attr), 32)
        tell([made, again, call(166, b'/run/own', 2)])
    """,
        security=ADMIN,
    )
    assert answers == [0, 0, 0]


CGROUPS = """
answers, mounted = {}, []
for kind, options in (('cgroup2', b''), ('cgroup', b'memory'), ('cgroup', b'cpu'), ('cgroup', b'rdma'), ('cgroup',
    b'none,name=x'),
                      ('cgroup', b'pids'), ('cgroup', b'devices'), ('cgroup', b'freezer')):
    target = f'/run/{kind}-{options.decode().replace(",", "-")}'
    os.makedirs(target, exist_ok=True)
    if sys.argv[1] == 'fresh':
        call(272, 0x2000000)  # a control group namespace of one's own, which SYS_ADMIN may have
    if call(165, b'none', target.encode(), kind.encode(), 0, options) == 0:
        mounted.append(target)
for place in mounted + ['/sys/fs/cgroup']:
    for directory, names, files in os.walk(place):
        for name in ('release_agent', 'notify_on_release', 'cgroup.procs', 'tasks', 'devices.allow',
            'memory.limit_in_bytes',
                     'cgroup.subtree_control', 'cgroup.freeze', 'cgroup.kill', 'memory.max'):
            if name in files:
                answers[f'{directory}/{name}'] = attempt(os.open, f'{directory}/{name}', os.O_WRONLY)
        answers[f'mkdir in {directory}'] = attempt(os.mkdir, directory + '/evil')
tell({'answers': answers, 'mounted': mounted})
"""


@pytest.mark.parametrize(
    "security", [pc.Security(), ADMIN, pc.Security(seccomp="unconfined")], ids=["default", "sys_admin", "unconfined"]
)
@pytest.mark.parametrize("fresh", ["inherited", "fresh"])
def test_cve_2022_0492_release_agent(security: pc.Security, fresh: str) -> None:
    """v1 hierarchies are really mounted on a hybrid machine. Nothing of them can be mounted, with SYS_ADMIN neither:
    that takes a control group namespace of the command's own, and it gets none."""
    agents = {path: path.read_text() for path in Path("/sys/fs/cgroup").glob("*/release_agent")}
    seen = inside(CGROUPS, fresh, security=security)
    assert seen["mounted"] == []
    assert {name: answer for name, answer in seen["answers"].items() if answer[0] != "refused"} == {}
    assert {path: path.read_text() for path in agents} == agents
    assert not list(Path("/sys/fs/cgroup").glob("*/evil"))


ENOSPC = 28
NAMESPACES = """
UNSHARE, MOUNT, NEWNS, NEWUSER, NEWCGROUP = 272, 165, 0x20000, 0x10000000, 0x2000000
PROC = '/run/own-proc'
def apart(*steps):
    # In a process of its own: the first call that is refused, or 0.
    ours, theirs = os.pipe()
    if (child := os.fork()) == 0:
        answer = next((result for step in steps if (result := step()) < 0), 0)
        os.write(theirs, str(answer).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(ours, 20))
def unshare(flags):
    return lambda: call(UNSHARE, flags)
def second_user():
    return call(117, 1, 1, 1) if sys.argv[1] == 'root' else 0  # setresuid; of a plain user's container there is one id
tell({
    'one': apart(unshare(NEWCGROUP)),
    'below a user namespace': apart(unshare(NEWUSER), unshare(NEWCGROUP)),
    'with one': apart(unshare(NEWUSER | NEWNS | NEWCGROUP)),
    'of another user': apart(second_user, unshare(NEWUSER), unshare(NEWCGROUP)),
    'as many as are wanted': attempt(os.open, '/proc/sys/user/max_cgroup_namespaces', os.O_WRONLY)[0],
    'the same of a proc of its own': apart(lambda: os.makedirs(PROC, exist_ok=True) or 0,
        lambda: call(MOUNT, b'proc', PROC.encode(), b'proc', 0, 0)),
})
"""


@pytest.mark.vm
@pytest.mark.parametrize("namespaces", [{"cgroup": "host"}, {}], ids=["shared", "own"])
def test_sys_admin_makes_no_control_group_namespace(namespaces: dict[str, str]) -> None:
    """A mount in one of its own would show a plain user's groups as that user's: the limits of the container, and
    whatever else was delegated to him."""
    who = "root" if os.geteuid() == 0 else "user"
    seen = inside(NAMESPACES, who, security=ADMIN, namespaces=namespaces)
    assert seen == {
        "one": -ENOSPC,
        "below a user namespace": -ENOSPC,
        "with one": -ENOSPC,
        "of another user": -ENOSPC,
        "as many as are wanted": "refused",
        "the same of a proc of its own": -EPERM,
    }
    with pc.Container(["sleep", "100"], security=ADMIN, namespaces=namespaces) as container:
        code = PRELUDE + "tell(call(272, 0x2000000))"
        assert container.exec(["python3", "-c", code], text=True).stdout == f"{-ENOSPC}\n"


@pytest.mark.requires("userns")
def test_control_in_a_user_namespace_the_kernel_mounts_the_groups() -> None:
    """The kernel primitive: whoever makes both namespaces sees all groups, and may write to those of his own user."""
    argv = ["unshare", "--user", "--map-root-user", "--mount", "--cgroup", "sh", "-ec"]
    script = "mount -t cgroup2 none /mnt; ls /mnt"
    done = subprocess.run([*argv, script], check=True, capture_output=True, text=True, timeout=60)
    assert "cgroup.controllers" in done.stdout.split()


@pytest.mark.requires("root", "cgroup1:memory")
def test_control_of_cve_2022_0492_the_file_is_there_for_the_host() -> None:
    """The kernel primitive: root of the host opens a release_agent of this very machine for writing."""
    script = 'for f in /sys/fs/cgroup/*/release_agent; do : >>"$f" && echo open; done'
    assert "open" in without_engine(script)


def test_cve_2023_25809_no_control_group_of_the_host(rootfs: Path) -> None:
    """Neither visible nor writable, in the host's network namespace (whose /sys is the host's) too."""
    script = "cat /proc/self/cgroup; cd /sys/fs/cgroup; for d in . *; do mkdir $d/evil 2>&1; done; ls"
    done = shell(rootfs, script, check=False)
    assert all(line.endswith(":/") for line in done.stdout.splitlines() if line[:1].isdigit() and ":" in line), (
        done.stdout
    )
    seen = inside(CGROUPS, "inherited", network="host")
    assert {name: answer for name, answer in seen["answers"].items() if answer[0] != "refused"} == {}


WRITES = """
opened, tried = [], 0
for top in ('/proc/sys', '/proc/irq', '/proc/bus', '/proc/fs', '/sys'):
    for directory, names, files in os.walk(top):
        if directory.count('/') > 7:
            names.clear()
        for name in files:
            tried += 1
            path = f'{directory}/{name}'
            fd = call(257, -100, path.encode(), os.O_WRONLY | os.O_NONBLOCK)
            if fd >= 0:
                os.close(fd)
                opened.append(path)
for path in ('/proc/sysrq-trigger', '/proc/kcore', '/proc/kmsg', '/proc/mtrr', '/proc/slabinfo', '/proc/acpi/wakeup',
    '/proc/timer_list',
             '/proc/scsi/scsi', '/proc/swaps', '/proc/kallsyms', '/proc/config.gz', '/proc/partitions'):
    fd = call(257, -100, path.encode(), os.O_WRONLY)
    if fd >= 0 and not stat.S_ISCHR(os.fstat(fd).st_mode):
        opened.append(path)
    if fd >= 0:
        os.close(fd)
tell([tried, opened])
"""


@BOTH
def test_cve_2022_0811_nothing_in_proc_sys_opens_for_writing(security: pc.Security) -> None:
    """Every file below /proc/sys, /proc/irq, /proc/bus, /proc/fs and /sys: core_pattern and sysrq-trigger
    among them.
    """
    tried, opened = inside(WRITES, security=security)
    assert tried > 500
    assert opened == []


@pytest.mark.requires("seams")
def test_control_of_cve_2022_0811_without_the_read_only_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the owner of an IPC namespace may set, he could: the same sweep opens it. (The host's own sysctls belong to
    the host's root, who is nobody in the container's user namespace.)
    """
    monkeypatch.setenv("PYCONTAINER_SEAM", "readonly_paths")
    _, opened = inside(WRITES)
    assert [path for path in opened if path.startswith("/proc/sys/")]
    assert "/proc/sys/kernel/core_pattern" not in opened


def test_cve_2022_0811_sysctls_of_the_container() -> None:
    """The two that the engine sets, in the container's own network namespace; the host's are what they were."""
    names = ["net/ipv4/ping_group_range", "net/ipv4/ip_unprivileged_port_start", "kernel/core_pattern"]
    before = [Path("/proc/sys", name).read_text() for name in names]
    seen: list[Any] = inside(f"tell([open('/proc/sys/' + name).read().split() for name in {names!r}])")
    assert seen[0][0] == "0"
    assert seen[1] == ["0"]
    assert [Path("/proc/sys", name).read_text() for name in names] == before


def test_masked_path_of_the_callers_own(rootfs: Path) -> None:
    """Paths outside /proc and /sys, files and directories, through links of the image: hidden under every name."""
    security = pc.Security(masked_paths=["/etc/passwd", "/tmp"], readonly_paths=["/etc"])
    done = shell(rootfs, "echo x >/tmp/x; cat /etc/passwd; echo x >/etc/new; ls -A /tmp", security=security)
    assert done.stdout == ""
    assert done.stderr.count("Read-only file system") >= 1
