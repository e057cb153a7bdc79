"""The engine's own processes as targets: PID 1 inside, the keeper outside; memory, descriptors, environment."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from hostile.attacks import inside

PTRACE_SEIZE = 0x4206
PRIVILEGED = pc.DEFAULT_CAPABILITIES | {"SYS_PTRACE", "DAC_READ_SEARCH", "KILL"}
libc = ctypes.CDLL(None, use_errno=True)

PID_1 = """
answers = {name: attempt(lambda: os.open('/proc/1/' + name, os.O_RDONLY)) for name in
           ('exe', 'mem', 'environ', 'maps', 'smaps', 'auxv', 'pagemap', 'stack', 'syscall', 'map_files', 'io',
           'personality')}
answers |= {name: attempt(os.readlink, '/proc/1/' + name) for name in ('exe', 'root', 'cwd', 'ns/mnt', 'ns/user')}
answers['fd'] = attempt(os.listdir, '/proc/1/fd')
answers['fd/0'] = attempt(os.readlink, '/proc/1/fd/0')
answers['write mem'] = attempt(os.open, '/proc/1/mem', os.O_RDWR)
answers['write exe'] = attempt(os.open, '/proc/1/exe', os.O_WRONLY)
answers['through root'] = attempt(os.listdir, '/proc/1/root/')
answers['through cwd'] = attempt(os.listdir, '/proc/1/cwd/')
for name, request in (('attach', 16), ('seize', 0x4206)):
    got = call(101, request, 1, 0, 0)
    answers[name] = ['refused', errno.errorcode[-got]] if got < 0 else ['done', got]
iov = (ctypes.c_uint64 * 2)(room(64), 64)
remote = (ctypes.c_uint64 * 2)(0x400000, 64)
for name, number in (('readv', 310), ('writev', 311)):
    got = call(number, 1, ctypes.addressof(iov), 1, ctypes.addressof(remote), 1, 0)
    answers[name] = ['refused', errno.errorcode[-got]] if got < 0 else ['done', got]
pidfd = os.pidfd_open(1)
got = call(438, pidfd, 3, 0)
answers['pidfd_getfd'] = ['refused', errno.errorcode[-got]] if got < 0 else ['done', got]
got = call(312, 1, os.getpid(), 0, 0, 0)
answers['kcmp'] = ['refused', errno.errorcode[-got]] if got < 0 else ['done', got]
tell(answers)
"""


@pytest.mark.parametrize("capabilities", [pc.DEFAULT_CAPABILITIES, PRIVILEGED], ids=["default", "ptrace"])
@pytest.mark.parametrize("filtered", ["default", "unconfined"])
def test_cve_2019_5736_pid_1_is_closed(capabilities: frozenset[str], filtered: Any) -> None:
    """Also CVE-2016-9962: PID 1 is a copy of the keeper, and so of what it knows of other containers. It is undumpable
    and its memory belongs to the host's user namespace, so that not even CAP_SYS_PTRACE inside opens it.
    """
    answers = inside(PID_1, security=pc.Security(capabilities=capabilities, seccomp=filtered))
    assert {name: answer for name, answer in answers.items() if answer[0] != "refused"} == {}
    assert {answer[1] for answer in answers.values()} <= {"EACCES", "EPERM", "ENOSYS"}


def test_control_of_cve_2019_5736_another_process_inside_is_open() -> None:
    """The same looks at a child of one's own succeed: it is PID 1 that is closed, not /proc."""
    answers = inside("""
        pid = os.fork()
        if not pid:
            import time; time.sleep(20)
        open_ = [attempt(os.open, f'/proc/{pid}/{name}', os.O_RDONLY)[0] for name in ('mem', 'environ', 'maps')]
        seized = call(101, 0x4206, pid, 0, 0)
        os.kill(pid, 9)
        tell([open_, seized])
    """)
    assert answers == [["done"] * 3, 0]


def test_cve_2019_5736_program_of_pid_1_cannot_be_executed_or_written() -> None:
    """A script whose interpreter is /proc/1/exe, or a command that is it: it is refused."""
    for argv in (["/proc/1/exe"], ["/proc/1/cwd/bin/sh"], ["/proc/1/root/bin/sh"]):
        with pytest.raises(pc.SetupError):
            pc.run(argv)
    files = {"/run/script": pc.File(b"#!/proc/1/exe\n", mode=0o755)}
    with pytest.raises(pc.SetupError):
        pc.run(["/run/script"], files=files)


def test_cve_2019_5736_script_of_its_own_exe() -> None:
    """#!/proc/self/exe names the helper, as the program of the moment of exec; it lies in a sealed memory file."""
    files = {"/run/script": pc.File(b"#!/proc/self/exe\n", mode=0o755)}
    try:
        done = pc.run(["/run/script"], files=files, timeout=10)
    except (pc.SetupError, pc.TimeoutExpired):
        return
    assert done.returncode != 0


SIGNALS = """
import signal, time
answers = {}
for number in range(1, 65):
    answers[number] = [call(62, 1, number), call(200, 1, number), call(424, os.pidfd_open(1), number, 0, 0)]
time.sleep(0.05)
tell([os.getppid(), os.path.exists('/proc/1/status')])
"""


def test_pid_1_survives_every_signal() -> None:
    """kill, tkill and pidfd_send_signal, 1 to 64, SIGKILL and SIGSTOP among them: the kernel drops what PID 1 does
    not handle, and the command is still reaped with its status. The control is the same signal
    to a child, which dies.
    """
    assert inside(SIGNALS) == [1, True]
    assert pc.run(["/bin/sh", "-c", "kill -9 1; kill -STOP 1; kill -TERM 1; exit 7"], timeout=20).returncode == 7
    assert pc.run(["/bin/sh", "-c", "sleep 30 & kill -9 $!; wait $!"], timeout=20).returncode == 137


def test_cve_2020_14370_environment_of_one_container_in_another() -> None:
    """Values that one container had, in the memory and the environment of the next: not even under its own /proc."""
    marker = "marker-of-another-container"
    pc.run(["/bin/true"], env={"A": marker}, input=marker.encode(), files={"/run/a": marker.encode()}, check=True)
    found = inside("""
        marker = ('marker-of-' + 'another-container').encode()
        hits = []
        for pid in os.listdir('/proc'):
            for name in ('environ', 'cmdline', 'comm', 'status', 'mountinfo', 'cgroup', 'fdinfo/0'):
                try:
                    if pid.isdigit() and pid != str(os.getpid()) and marker in open(f'/proc/{pid}/{name}', 'rb').read():
                        hits.append(f'{pid}/{name}')
                except OSError:
                    pass
        tell([hits, 'A' in os.environ])
    """)
    assert found == [[], False]


LOADER = {
    "LD_PRELOAD": "/evil.so", "LD_LIBRARY_PATH": "/evil", "LD_AUDIT": "/evil.so", "GCONV_PATH": "/evil",
    "PYTHONPATH": "/evil",
    "BASH_ENV": "/evil", "GLIBC_TUNABLES": "glibc.malloc.check=3", "NLSPATH": "/evil", "LOCPATH": "/evil",
}  # fmt: skip


def keepers() -> list[int]:
    """Processes of the engine on this machine that belong to this interpreter's containers: their name is in
    /proc/PID/comm.
    """
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                comm = Path(entry.path, "comm").read_text().strip()
            except OSError:
                continue
            if comm.startswith("pycontainer"):
                found.append(int(entry.name))
    return found


@pytest.mark.requires("root")
def test_cve_2025_23266_environment_never_reaches_the_engine() -> None:
    """LD_PRELOAD and its kin are the command's only: the keeper and every PID 1 have an empty environment."""
    seen: list[bytes] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for pid in keepers():
                try:
                    environ = Path(f"/proc/{pid}/environ").read_bytes()
                    # A set-up child becomes the command: what it is after the reading, it was before.
                    if Path(f"/proc/{pid}/comm").read_text().startswith("pycontainer"):
                        seen.append(environ)
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(5):
        done = pc.run(["/usr/bin/env"], env=LOADER | {"LD_PRELOAD": ""}, text=True, check=True)
    stop.set()
    watcher.join()
    assert "LD_AUDIT=/evil.so" in done.stdout
    assert len(seen) > 5, "no process of the engine was seen"
    assert not [environ for environ in seen if b"evil" in environ]


def groups_of_a_run() -> list[tuple[tuple[str, ...], dict[str, str]]]:
    """For each process of a run with limits, read from outside while it runs: the controllers that hold them, and the
    group that it is in for each.
    """
    limits = pc.Limits(memory="256MiB", pids=50, cpus=1)
    found: dict[str, str] = {}

    def look() -> None:
        deadline = time.monotonic() + 10
        while not found and time.monotonic() < deadline:
            for entry in os.scandir("/proc"):
                try:
                    if entry.name.isdigit() and b"hostile-marker" in Path(entry.path, "cmdline").read_bytes():
                        found[entry.name] = Path(entry.path, "cgroup").read_text()
                except OSError:
                    continue

    watcher = threading.Thread(target=look)
    watcher.start()
    pc.run(["/bin/sh", "-c", "sleep 1; : hostile-marker"], limits=limits, check=True)
    watcher.join()
    assert found
    seen = []
    for text in found.values():
        rows = [line.split(":", 2) for line in text.splitlines()]
        groups = {name: path for _, controllers, path in rows for name in controllers.split(",")}
        # Version 2: one group for all.
        seen.append((("memory", "pids", "cpu") if "memory" in groups else ("",), groups))
    return seen


@pytest.mark.requires("root", "controller:memory", "controller:pids")
def test_cve_2025_47291_in_our_group_in_every_controller() -> None:
    """The group is ours for each controller that holds a limit, also with a user namespace."""
    for names, groups in groups_of_a_run():
        assert all("/pycontainer-" in groups[name] for name in names), groups


@pytest.mark.requires("root", "seams", "cgroup1:memory", "cgroup1:pids")
def test_control_of_cve_2025_47291_a_group_that_was_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the joining left out the same look finds them in this process's own groups. On version 2 there is nothing to
    leave out: clone3 makes the process in its group.
    """
    monkeypatch.setenv("PYCONTAINER_SEAM", "cgroup")
    for names, groups in groups_of_a_run():
        assert not any("/pycontainer-" in groups[name] for name in names), groups
