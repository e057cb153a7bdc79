"""Image.host(): programs without data. What is root's stays root's, nothing can be changed, nobody outside is seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pycontainer as pc
from hostile.attacks import inside, outside


@pytest.fixture
def secret_in_opt() -> object:
    """A file of root's, 0600, in a directory that Image.host() shows."""
    path = Path("/opt/pycontainer-test-secret")
    path.write_text("secret of root\n")
    path.chmod(0o600)
    yield path
    path.unlink()


LOOK = """
def look(path):
    try:
        if os.path.isdir(path):
            return sorted(os.listdir(path))
        return open(path, 'rb').read(100).decode('latin-1')
    except OSError as error:
        return errno.errorcode[error.errno]
tell({path: look(path) for path in json.loads(sys.argv[1])})
"""


@pytest.mark.requires("root")
@pytest.mark.parametrize("security", [pc.Security(), pc.Security(user_namespace="host")], ids=["auto", "host"])
def test_k33_files_of_root_are_not_readable(secret_in_opt: Path, security: pc.Security) -> None:
    """The trees are not idmapped: a 0600 file of root's belongs to nobody inside. With user_namespace="host" root
    inside is root, and DAC says yes: there the file can be read, which docs/security.md says; nothing of /etc,
    /root, /home is there either way.
    """
    import json

    seen = inside(LOOK, json.dumps([str(secret_in_opt)]), security=security)
    assert seen[str(secret_in_opt)] == ("EACCES" if security.user_namespace == "auto" else "secret of root\n")
    assert outside(LOOK, json.dumps([str(secret_in_opt)]))[str(secret_in_opt)] == "secret of root\n"  # the control


SECRETS = [
    "/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/ssh", "/etc/ssl/private", "/etc/docker", "/etc/machine-id",
    "/etc/fstab",
    "/etc/subuid", "/etc/hostname", "/etc/krb5.keytab", "/etc/passwd-", "/etc/crontab", "/etc/environment",
    "/root/.ssh",
    "/root/.bash_history", "/root/.netrc", "/home/pycontainer-test", "/var/lib", "/var/log", "/var/run", "/run/secrets",
    "/run/docker.sock", "/run/systemd", "/boot", "/media", "/lost+found",
]  # fmt: skip


def test_k33_secrets_of_etc_and_homes_are_not_there() -> None:
    """An allow-list, so this list is only a sample; what this interpreter's prefix lies in shows nothing else of
    itself.
    """
    import json

    seen = inside(LOOK, json.dumps(SECRETS))
    prefix = Path(sys.prefix).resolve()
    empty = {"/var/run": ["ENOENT", []], "/root/.ssh": ["ENOENT"]}
    for path, found in seen.items():
        assert found in empty.get(path, ["ENOENT"]) or prefix.is_relative_to(path), (path, found)
    passwd = inside("tell(open('/etc/passwd').read())")
    assert [line.split(":")[0] for line in passwd.splitlines()] == ["root", "nobody"]
    assert os.path.exists("/etc/passwd"), "the control: it is there outside"


def test_k33_home_of_root_holds_the_interpreter_at_most() -> None:
    import json

    seen = inside(LOOK, json.dumps(["/root", "/home", "/tmp", "/run", "/mnt", "/srv"]))
    shown = [(*Path(part).parts, "", "")[1:3] for part in (sys.prefix, sys.base_prefix)]
    for path, names in seen.items():
        assert set(names) <= {second for first, second in shown if f"/{first}" == path}, path


CHANGE = """
targets = [path for path in sys.argv[1:] if os.path.exists(path)]
beside = lambda path: os.path.dirname(path) + '/x'
bodies = {
    'write': lambda path: open(path, 'r+b') if os.path.isfile(path) else os.mknod(path + '/x'),
    'chmod': lambda path: os.chmod(path, 0o777), 'chown': lambda path: os.chown(path, 0, 0),
    'truncate': lambda path: os.truncate(path, 0), 'utime': lambda path: os.utime(path, (1, 1)),
    'xattr': lambda path: os.setxattr(path, 'security.x', b'1'), 'link': lambda path: os.link(path, beside(path)),
    'rename': lambda path: os.rename(path, path + 'x'),
    'unlink': lambda path: os.unlink(path if os.path.exists(path) else path + 'x'),
}
tell({f'{name} {path}': attempt(body, path) for path in targets for name, body in bodies.items()})
"""


@pytest.mark.parametrize(
    "capabilities", [pc.DEFAULT_CAPABILITIES, pc.DEFAULT_CAPABILITIES | {"SYS_ADMIN", "DAC_READ_SEARCH"}]
)
def test_cve_2016_5195_trees_of_the_host_cannot_be_changed(capabilities: frozenset[str]) -> None:
    """No path leads to a write of what the host shares; what went round the paths is the next test."""
    targets = ["/usr/bin/env", "/bin/sh", "/usr/lib/os-release", "/usr"]
    answers = inside(CHANGE, *targets, security=pc.Security(capabilities=capabilities))
    assert len(answers) >= 27
    assert {name: answer for name, answer in answers.items() if answer[0] != "refused"} == {}


def test_control_of_cve_2016_5195_a_file_of_its_own_can_be_changed() -> None:
    """The same changes of what is not the host's: done, but for an attribute that no container may set."""
    answers = inside(CHANGE, "/own/file", files={"/own/file": b"content"})
    refused = {name: answer for name, answer in answers.items() if answer[0] != "done"}
    assert set(refused) == {"xattr /own/file"}, answers


# Dirty COW: a private copy of a page, thrown away while it is written to through /proc. Dirty Pipe: a page of the file
# in a pipe whose slots remember that they may be added to. Both steps succeed; what they write to is the question.
SHARED_PAGES = """
import mmap, threading
path = sys.argv[1]
fd = os.open(path, os.O_RDONLY)
length = os.fstat(fd).st_size
page = libc.mmap
page.restype, page.argtypes = ctypes.c_void_p, [ctypes.c_void_p, *[ctypes.c_long] * 5]
address = page(None, length, mmap.PROT_READ, mmap.MAP_PRIVATE, fd, 0)
memory, done, written = os.open('/proc/self/mem', os.O_RDWR), threading.Event(), 0
def forget():
    while not done.is_set():
        libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(length), 4)
forgetting = threading.Thread(target=forget)
forgetting.start()
for _ in range(5000):
    try:
        written += os.pwrite(memory, b'COW!', address) == 4
    except OSError:
        pass
done.set()
forgetting.join()
read, write = os.pipe()
os.write(write, bytes(65536))
os.read(read, 65536)
spliced = os.splice(fd, write, 1, offset_src=0)
added = os.write(write, b'PIPE!')
tell([written, spliced, added, os.read(read, 6).decode(), os.pread(fd, 8, 0).decode()])
"""


@pytest.mark.parametrize("read_only", [True, False])
def test_cve_2022_0847_pages_of_a_file_that_is_only_read(scratch: Path, read_only: bool) -> None:
    """And CVE-2016-5195 itself: the attacks' own steps on a file that the container may read. They run to their end,
    and the file stays. Both holes are closed in every kernel that this runs on, and the engine has no wall against
    them: no control can fire here, and a kernel that has them fails this test.
    """
    place = scratch / f"pages-{read_only}"
    place.mkdir()
    (place / "file").write_text("original" * 512)
    (place / "file").chmod(0o444)
    mounts = [pc.Mount.bind(place, "/place", read_only=True) if read_only else pc.Mount.overlay(place, "/place")]
    written, spliced, added, piped, seen = inside(SHARED_PAGES, "/place/file", mounts=mounts)
    assert (spliced, added, piped) == (1, 5, "oPIPE!")
    assert written > 0
    assert seen == "original"
    assert (place / "file").read_text() == "original" * 512


PROCESSES = """
own = {int(pid) for pid in os.listdir('/proc') if pid.isdigit()}
signalled = [pid for pid in range(2, 40000) if pid not in own and call(62, pid, 0) == 0]
known = int(sys.argv[1])
tell({'own': sorted(own), 'signalled': signalled, 'environ': attempt(lambda: open(f'/proc/{known}/environ',
    'rb').read()),
      'ppid': os.getppid(), 'everyone': call(62, -1, 0)})
"""


def test_cve_2022_1227_processes_of_the_host_are_not_there() -> None:
    """A secret in the environment of a host process: neither /proc nor a signal reaches it."""
    victim = subprocess.Popen(["sleep", "60"], env={"SECRET": "of the host"})
    try:
        seen = inside(PROCESSES, str(victim.pid))
        control = outside("tell(open(f'/proc/{sys.argv[1]}/environ').read())", str(victim.pid))
    finally:
        victim.kill()
        victim.wait()
    assert control == "SECRET=of the host\0"
    assert len(seen["own"]) <= 3
    assert seen["signalled"] == []
    assert seen["environ"] == ["refused", "ENOENT"]
    assert seen["ppid"] == 1


def test_cve_2020_15257_abstract_sockets_of_the_host() -> None:
    """network="none" has a network namespace, and abstract names belong to it; the engine itself makes none."""
    import socket

    name = f"\0pycontainer-test-{os.getpid()}"
    before = abstract_names()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()
        code = "s = socket.socket(socket.AF_UNIX); tell(attempt(s.connect, '\\0' + sys.argv[1]))"
        assert inside(code, name[1:]) == ["refused", "ECONNREFUSED"]
        assert outside(code, name[1:])[0] == "done"  # the control
        made = {found for found in abstract_names() - before if f"@{name[1:]}" != found}
    assert not {found for found in made if "pycontainer" in found}


def abstract_names() -> set[str]:
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return {row[7] for row in rows if len(row) > 7 and row[7].startswith("@")}


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_k36_inherited_terminal_is_never_handed_on(stream: str) -> None:
    """A terminal of the host's, open read-write, as INHERIT at a shell would pass it: inside there is a pipe."""
    import pty
    import threading

    master, slave = pty.openpty()
    drained = threading.Thread(target=drain, args=(master,), daemon=True)
    drained.start()
    number = {"stdin": 0, "stdout": 1, "stderr": 2}[stream]
    code = f"""
import os, sys
try:
    os.ttyname({number}); found = 'a terminal'
except OSError:
    found = os.readlink('/proc/self/fd/{number}').split(':')[0]
open('/out/found', 'w').write(found)
"""
    try:
        place = Path("/var/tmp") / f"pycontainer-k36-{os.getpid()}"
        place.mkdir()
        if os.geteuid() == 0:
            os.chown(place, 1000, 1000)
        pc.run(
            ["python3", "-c", code], mounts=[pc.Mount.bind(place, "/out")], timeout=30, check=True, **{stream: slave}
        )
        assert (place / "found").read_text() in ("pipe", "/dev/null")
        os.ttyname(slave)  # the control: what was given is a terminal
    finally:
        import shutil

        shutil.rmtree(place)
        os.close(slave)
        drained.join(5)
        os.close(master)


def drain(master: int) -> None:
    try:
        while os.read(master, 4096):
            pass
    except OSError:
        return
