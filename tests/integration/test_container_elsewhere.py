"""Containers of other processes: found by id, name and beginning, used, waited for; what was found owns nothing."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import house
import pycontainer as pc
import worlds
from pace import patience, until
from pycontainer import Container, Limits, Reason
from pycontainer._native import core

pytestmark = pytest.mark.requires("userns")
SLEEP = ["sleep", "100"]


def elsewhere(code: str, *words: str, **options: Any) -> str:
    """What another process prints."""
    done = subprocess.run(
        [*worlds.python(f"import json\nfrom pycontainer import *\n{code}"), *words],
        capture_output=True, text=True, timeout=patience(60), check=False, **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ResourceWarning" not in done.stderr
    return done.stdout


# It starts a container and waits for a line.
OWNER = """
import sys
from pycontainer import Container
with Container(["sleep", "100"], image=sys.argv[1], name=sys.argv[2] or None) as container:
    print(container.id, flush=True)
    sys.stdin.readline()
"""


class Owner:
    """Another process that has a container."""

    def __init__(self, rootfs: Path, name: str = "") -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([*worlds.python(OWNER), str(rootfs), name], text=True, **pipes)  # type: ignore[call-overload]
        self.id = self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.communicate("\n", timeout=patience(30))


@pytest.fixture(scope="module", autouse=True)
def several_at_once(rootfs: Path, warm_engine: None) -> None:
    """An engine keeps as many ranges of ids as it had containers at a time."""
    several = [Container(["true"], image=rootfs).start() for _ in range(3)]
    for container in several:
        container.close()


@pytest.fixture
def owner(rootfs: Path) -> Iterator[Owner]:
    made = Owner(rootfs, "an-owner-s")
    yield made
    made.end()


def keeper_of(container: Container) -> int:
    """The pid of the keeper of this process."""
    pid, _ = core().keeper_pid()
    return int(pid)


def home_of(container: Container) -> Path:
    return Path(core().registry_place()) / Path(container._record).parent.name


def test_it_is_found_by_id_name_and_beginning(rootfs: Path, owner: Owner) -> None:
    for word in (owner.id, "an-owner-s", owner.id[:12]):
        with Container.get(word) as found:
            assert (found.id, found.name, found.args) == (owner.id, "an-owner-s", SLEEP)
            assert found.state == "RUNNING"
            assert found.poll() is None
            assert found.result is None
            comm = Path(f"/proc/{found.pid}/comm")
            # execve(2) closes files, for which a start waits, before it gives the name.
            until(lambda comm=comm: comm.read_text() == "sleep\n")
    for word in ("no-such-name", "", "/", "..", owner.id[:-1] + "g", "0" * 32):
        with pytest.raises(pc.StateError, match="there is no container"):
            Container.get(word)
    with pytest.raises(TypeError):
        Container.get(b"an-owner-s")  # type: ignore[arg-type]


def test_a_beginning_that_two_have_is_nobody_s(rootfs: Path, owner: Owner) -> None:
    other = Container(SLEEP, image=rootfs)
    other.id = owner.id[:20] + "0" * 12
    other.name = other.id[:12]
    with other:
        with pytest.raises(pc.StateError, match="several"):
            Container.get(owner.id[:20])
        assert Container.get(owner.id[:21] if owner.id[20] != "0" else owner.id).id == owner.id
        assert Container.get(other.id).id == other.id


def test_facts_are_the_owner_s(rootfs: Path) -> None:
    limits = Limits(wall_time=60, output="4MiB", rlimits={"nofile": (64, 64)}, pids="max")
    given: dict[str, Any] = {"labels": {"a": "b", "\0bytes": "c", "ü": "\udcff"}, "limits": limits}
    with Container(["sh", "-c", "echo out; echo err >&2; sleep 100"], image=rootfs, text=True, **given) as container:
        for found in (Container.get(container.id), *Container.all()):
            for name in ("id", "name", "labels", "args", "limits", "pid"):
                assert getattr(found, name) == getattr(container, name), name
            rows, own = dict(found.enforced), dict(container.enforced)
            assert {name: row.state for name, row in rows.items()} == {
                name: row.state for name, row in own.items() if name in rows
            }
            assert {"seccomp", "capabilities", "user_namespace", "root", "rlimits"} <= set(rows)
            assert [line for _, line in zip(range(2), found.lines(timeout=patience(10)), strict=False)]
            assert found.logs("stdout") == "out\n"
            for call in (found.resume, found.diff, found.pause, lambda: found.read_bytes("/x"), lambda: found.stdin):
                with pytest.raises(pc.StateError):
                    call()
            found.close()


USES = """
import sys, pycontainer as pc
container = Container.get(sys.argv[1])
done = container.exec(["sh", "-c", "cat; echo err >&2; exit 3"], input=b"in")
print(done.returncode, done.stdout, done.stderr, done.reason)
with container.popen(["cat"], stdin=pc.PIPE, stdout=pc.PIPE, text=True) as cat:
    print(cat.communicate("text\\n")[0])
print(container.exec(["sh", "-c", "test -t 0 && stty size"], tty=True, text=True).stdout)
try:
    container.exec(["sleep", "100"], timeout=0.2)
except pc.TimeoutExpired as expired:
    print(expired.result.reason)
for command in (["no-such-command"], ["/etc"]):
    try:
        container.exec(command)
    except (pc.CommandNotFound, pc.CommandNotExecutable) as error:
        print(type(error).__name__)
"""


@pytest.mark.vm
def test_commands_run_in_it(rootfs: Path, owner: Owner) -> None:
    lines = elsewhere(USES, owner.id).splitlines()
    assert lines[0] == r"3 b'in' b'err\n' exited"
    assert lines[1:] == ["text", "", "24 80", "", "timeout", "CommandNotFound", "CommandNotExecutable"]


STATUS = ["sh", "-c", "cd /proc/self; cat status cgroup uid_map; ls -l ns; cd - >/dev/null; umask; id; pwd; env"]
OF_A_PROCESS = ("Pid", "PPid", "NSpid", "NSpgid", "NSsid", "NStgid", "Tgid", "Ngid", "Vm", "Rss", "HugetlbPages",
                "voluntary", "nonvoluntary", "SigQ", "Cpus", "Mems", "State", "Threads", "FDSize")  # fmt: skip


def status(container: Container, **options: Any) -> list[str]:
    lines = container.exec(STATUS, text=True, **options).stdout.splitlines()
    of_links = [line.rsplit(" ", 1)[-1] if "->" in line else line for line in lines]
    return [line for line in of_links if not line.startswith(OF_A_PROCESS)]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"security": pc.Security.strict(), "read_only": True},
        {"security": pc.Security(capabilities=pc.DEFAULT_CAPABILITIES | {"SYS_ADMIN"})},
        {"security": pc.Security(seccomp="unconfined"), "env": {"A": "ü"}, "cwd": "/tmp", "umask": 0o27},
        {"limits": Limits(rlimits={"nofile": (100, 200)}, pids=50), "user": 0},
    ],
    ids=["default", "strict", "admin", "unconfined", "limits"],
)
def test_a_command_from_elsewhere_has_no_more_than_the_owner_s(rootfs: Path, given: dict[str, Any]) -> None:
    with Container(SLEEP, image=rootfs, **given) as container:
        own, others = status(container), status(Container.get(container.id))
        if "SYS_ADMIN" in given.get("security", pc.Security()).capabilities:  # each has mounts of its own
            own, others = ([line for line in lines if not line.startswith("mnt:")] for lines in (own, others))
        assert own == others
        assert len(own) > 30


@pytest.mark.parametrize(
    ("send", "reason", "code"),
    [
        ("container.send_signal('TERM')", Reason.STOPPED, -15),
        ("container.stop()", Reason.STOPPED, -15),
        ("container.kill()", Reason.KILLED, -9),
        ("container.send_signal('USR1')", Reason.SIGNALED, -10),
    ],
)
def test_an_end_from_elsewhere_is_everybody_s(rootfs: Path, send: str, reason: Reason, code: int) -> None:
    code_of = f"import sys\ncontainer = Container.get(sys.argv[1])\n{send}\nprint(container.wait(timeout=10))"
    code_of += "\nprint(container.result.reason, container.state)"
    with Container(SLEEP, image=rootfs) as container:
        assert elsewhere(code_of, container.id).split() == [str(code), reason, "EXITED"]
        assert container.wait(timeout=patience(5)) == code
        assert container.result is not None
        assert container.result.reason is reason


def test_the_owner_s_end_is_waited_for(rootfs: Path) -> None:
    script = "echo out; read line; exit 7"
    with Container(["sh", "-c", script], image=rootfs, stdin=pc.PIPE) as container:
        found = Container.get(container.id)
        with pytest.raises(pc.TimeoutExpired):
            found.wait(timeout=0.1)
        container.stdin.close()
        assert found.wait(timeout=patience(5)) == 7
        assert found.result is not None
        assert found.result.stdout == b"out\n"
        assert (found.result.reason, found.state) == (Reason.EXITED, "EXITED")
        assert found.result.usage.wall is not None
        assert found.result.usage.wall > 0.05


def test_leaving_closing_and_dropping_end_nothing(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs) as container, warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with Container.get(container.id) as found:
            process = found.popen(SLEEP)
        assert found.state == "REMOVED"
        closed = found
        for call in (closed.kill, lambda: closed.exec(["true"]), lambda: closed.send_signal("TERM")):
            with pytest.raises(pc.StateError):
                call()
        Container.get(container.id).close()
        del found
        Container.get(container.id)
        Container.all()
        assert container.state == "RUNNING"
        assert process.poll() is None
        assert container.exec(["true"]).returncode == 0
    assert process.wait(timeout=patience(5)) == -9


def test_one_pickles_as_a_reference(rootfs: Path) -> None:
    with pytest.raises(pc.StateError, match="once it was started"):
        pickle.dumps(Container(SLEEP, image=rootfs))
    with Container(SLEEP, image=rootfs) as container:
        data = pickle.dumps(container)
        assert len(data) < 200
        code = "import sys, pickle\nfound = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        code += "print(found.exec(['echo', 'here'], text=True).stdout)"
        assert elsewhere(code, data.hex()).strip() == "here"
        assert pickle.loads(pickle.dumps(Container.get(container.id))).id == container.id
    with pytest.raises(pc.StateError, match="there is no container"):
        pickle.loads(data)


def test_all_are_listed_the_oldest_first(rootfs: Path, owner: Owner) -> None:
    with Container(SLEEP, image=rootfs, name="second") as second, Container(SLEEP, image=rootfs) as third:
        wanted = [owner.id, second.id, third.id]
        assert [found.id for found in Container.all() if found.id in wanted] == wanted
        assert elsewhere("print([c.name for c in Container.all() if c.name in ('an-owner-s', 'second')])") == (
            "['an-owner-s', 'second']\n"
        )
    assert not {second.id, third.id} & {found.id for found in Container.all()}


def test_a_name_is_one_container_s(rootfs: Path, owner: Owner) -> None:
    with pytest.raises(ValueError, match="name: 'an-owner-s' is the name of another container"):
        Container(SLEEP, image=rootfs, name="an-owner-s").start()
    for _ in range(2):
        with Container(SLEEP, image=rootfs, name="again") as container:
            assert Container.get("again").id == container.id
            with pytest.raises(ValueError, match="again"):
                Container(SLEEP, image=rootfs, name="again").start()
        with pytest.raises(pc.CommandNotFound):
            Container(["no-such-command"], image=rootfs, name="again").start()


CLAIMS = """
import sys
from pycontainer import Container
sys.stdin.readline()
try:
    with Container(["true"], image=sys.argv[1], name="the-same"):
        print("had it", flush=True)
        sys.stdin.readline()
except ValueError:
    print("taken", flush=True)
"""


def test_of_many_who_want_a_name_at_once_one_gets_it(rootfs: Path) -> None:
    # One that was killed has left it behind, so that all of them find it stale first.
    dead = Owner(rootfs, "the-same")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    many = [subprocess.Popen([*worlds.python(CLAIMS), str(rootfs)], text=True, **pipes) for _ in range(6)]  # type: ignore[call-overload]
    time.sleep(patience(0.5))
    kill_with_keeper(dead)
    for process in many:
        process.stdin.write("\n")
        process.stdin.flush()
    said = sorted(process.stdout.readline().strip() for process in many)
    for process in many:
        process.communicate("\n", timeout=patience(20))
    assert said == ["had it", *["taken"] * 5]


def kill_with_keeper(owner: Owner) -> Path:
    """Both at once, so that nobody cleans up. Returns the keeper's directory."""
    home = next(path.parent for path in Path(core().registry_place()).glob(f"*/{owner.id}"))
    keeper = int(home.name.split("-")[1])
    os.kill(keeper, signal.SIGSTOP)
    owner.process.kill()
    os.kill(keeper, signal.SIGKILL)
    owner.process.wait()
    owner.process.stdin.close()
    owner.process.stdout.close()
    deadline = time.monotonic() + patience(5)
    while Path(f"/proc/{keeper}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return home


def test_what_a_dead_keeper_left_is_not_believed_and_is_swept(rootfs: Path) -> None:
    dead = Owner(rootfs, "dead-one")
    home = kill_with_keeper(dead)
    assert (home / dead.id).exists()
    # As if somebody wanted it to be believed: another container, and a name for it.
    forged = json.loads((home / dead.id).read_text()) | {"id": "f" * 32, "name": "forged"}
    (home / ("f" * 32)).write_text(json.dumps(forged))
    (home / ("f" * 32)).chmod(0o600)
    for word in (dead.id, "dead-one", "f" * 32):
        with pytest.raises(pc.StateError, match="there is no container"):
            Container.get(word)
    assert not {dead.id, "f" * 32} & {found.id for found in Container.all()}
    assert not home.exists()
    elsewhere("run(['true'])")  # a new engine sweeps what else is left
    with Container(SLEEP, image=rootfs, name="dead-one") as container:
        assert Container.get("dead-one").id == container.id


def test_what_a_host_leaves_that_was_killed_goes_with_its_keeper(rootfs: Path) -> None:
    owner = Owner(rootfs)
    home = next(path.parent for path in Path(core().registry_place()).glob(f"*/{owner.id}"))
    owner.process.kill()
    owner.end()
    deadline = time.monotonic() + patience(10)
    while home.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not home.exists()


def test_a_record_that_others_could_have_written_is_not_believed(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs) as container:
        record = Path(container._record)
        assert record.stat().st_mode & 0o777 == 0o600
        assert record.parent.stat().st_mode & 0o777 == record.parent.parent.stat().st_mode & 0o777 == 0o700
        assert (record.parent / "socket").stat().st_mode & 0o777 == 0o600
        text = record.read_text()
        for spoil in (
            lambda: record.chmod(0o644),
            lambda: record.write_text(text[:-10]),
            lambda: record.write_text("[]"),
            lambda: record.write_text(text.replace(container.id, "0" * 32)),
            lambda: (record.rename(record.with_name("aside")), record.symlink_to("aside")),
        ):
            spoil()
            with pytest.raises(pc.StateError):
                Container.get(container.id)
            assert container.id not in {found.id for found in Container.all()}
            record.unlink()
            record.write_text(text)
            record.chmod(0o600)
            assert Container.get(container.id).state == "RUNNING"


def test_a_record_of_a_container_that_has_gone_is_one_that_has_ended(rootfs: Path) -> None:
    with Container(["sh", "-c", "read line"], image=rootfs, stdin=pc.PIPE) as container:
        early = Container.get(container.id)
        late = next(found for found in Container.all() if found.id == container.id)
        container.stdin.close()
        assert container.wait(timeout=patience(5)) == 1
        # It did not look while there was something to see.
        assert late.state == "EXITED"
        for call in (late.poll, late.wait, lambda: late.result):
            with pytest.raises(pc.StateError, match="only its own process knows"):
                call()
        with pytest.raises(pc.StateError):
            late.exec(["true"])
        assert early.wait() == 1
        assert [found.state for found in Container.all() if found.id == container.id] == ["EXITED"]


CONNECTS = """
import json, os, socket, sys
gid, uid = int(sys.argv[2]), int(sys.argv[3])
os.setgroups([])
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
said = {}
try:
    said["list"] = os.listdir(sys.argv[1])
except OSError as error:
    said["list"] = error.errno
line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
line.settimeout(20)
try:
    line.connect(sys.argv[1] + "/socket")
    line.send(bytes([23]) + int(sys.argv[4]).to_bytes(8, "little"))
    said["answer"] = line.recv(100).hex()
except OSError as error:
    said["answer"] = error.errno
print(json.dumps(said))
"""


@pytest.mark.requires("root")
def test_another_user_gets_nothing(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs) as container:
        home, number = home_of(container), container._native.address()[1]

        def asked_by(uid: int) -> dict[str, Any]:
            said = subprocess.run(
                [*worlds.python(CONNECTS), str(home), str(uid), str(uid), str(number)],
                check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip
            return dict(json.loads(said))

        assert asked_by(65534) == {"list": 13, "answer": 13}
        # Even where the directories are open: the kernel says who comes, and its end is all that he hears.
        opened = [home, home.parent, home.parent.parent]
        try:
            for path in opened:
                path.chmod(0o755)
            (home / "socket").chmod(0o777)
            other = asked_by(65534)
            assert container.id in other["list"]
            assert other["answer"] in ("", 32, 104)
            assert asked_by(0)["answer"].startswith("1500000000")  # the control: ATTACHED, and no error
        finally:
            for path in opened:
                path.chmod(0o700)
        assert container.exec(["true"]).returncode == 0


@pytest.mark.requires("root")
def test_another_user_s_containers_are_not_root_s(rootfs: Path, plain_user: worlds.PlainUser) -> None:
    with Container(SLEEP, image=rootfs, name="root-s"):
        code = (
            "from pycontainer import *\nprint([c.name for c in Container.all()])\ntry:\n    Container.get('root-s')\n"
        )
        code += "except StateError as error:\n    print(error)"
        done = subprocess.run(plain_user(code), check=True, capture_output=True, text=True)
        assert done.stdout == "[]\nthere is no container 'root-s' among those of this user\n"
    assert house.USER


def visitor(home: Path) -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.settimeout(patience(20))
    line.connect(str(home / "socket"))
    return line


def test_a_visitor_that_talks_nonsense_is_shown_out(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs) as container:
        home, number = home_of(container), container._native.address()[1]
        attach = bytes([23]) + number.to_bytes(8, "little")
        unattached = ([b"?"], [bytes([4, 7])], [bytes([1])])
        attached = ([attach, attach], [attach, b"\xff" * 5000], [attach, bytes([4, 5])])  # KILL, for OUTPUT's reason
        for words in (*unattached, *attached):
            with visitor(home) as line:
                for word in words:
                    line.send(word)
                heard = []
                while piece := _heard(line):
                    heard.append(piece)
            assert len(heard) <= 1, (words, heard)
        with visitor(home) as line:  # a number that is nobody's
            line.send(bytes([23]) + (1 << 60).to_bytes(8, "little"))
            assert line.recv(100) == bytes([21, 3, 0, 0, 0])
        assert container.exec(["true"]).returncode == 0


def _heard(line: socket.socket) -> bytes:
    try:
        return line.recv(1 << 16)
    except ConnectionResetError:
        return b""


@pytest.mark.requires("root")
def test_visitors_who_do_not_read_stay_bounded_and_stop_nobody(rootfs: Path, request: pytest.FixtureRequest) -> None:
    with Container(SLEEP, image=rootfs) as container:
        home, number, keeper = home_of(container), container._native.address()[1], keeper_of(container)
        attach = bytes([23]) + number.to_bytes(8, "little")
        fds = Path(f"/proc/{keeper}/fd")
        before = len(list(fds.iterdir()))
        lines = [visitor(home) for _ in range(60)]
        for line in lines:
            line.setblocking(False)
            line.send(attach)
            try:
                for _ in range(400):
                    line.send(bytes([24]))  # a socket to PID 1, and never an answer read
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                pass
        assert container.exec(["echo", "on"], text=True, timeout=patience(20)).stdout == "on\n"
        assert Container.get(container.id).state == "RUNNING"
        for line in lines:
            line.close()
        deadline = time.monotonic() + patience(10)
        while len(list(fds.iterdir())) > before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(list(fds.iterdir())) <= before
        # PID 1 has let them go too.
        first = Path(f"/proc/{container.pid}/status").read_text().split("PPid:")[1].split()[0]
        while len(list(Path(f"/proc/{first}/fd").iterdir())) > 16 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(list(Path(f"/proc/{first}/fd").iterdir())) <= 16
        assert Container.get(container.id).exec(["true"]).returncode == 0


def test_sixteen_have_errands_at_once_and_the_next_is_told(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs) as container:
        found = [Container.get(container.id) for _ in range(17)]
        for one in found[:16]:
            assert one.exec(["true"]).returncode == 0
        with pytest.raises(pc.SetupError, match="reach PID 1"):
            found[16].exec(["true"])
        assert found[16].poll() is None
        assert found[16].logs() == b""
        found[0].close()
        deadline = time.monotonic() + patience(10)
        while True:
            try:
                assert found[16].exec(["true"]).returncode == 0
                break
            except pc.SetupError:
                assert time.monotonic() < deadline
        assert container.exec(["true"]).returncode == 0


def test_a_keeper_that_was_stopped_is_woken(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs) as container:
        keeper = keeper_of(container)
        os.kill(keeper, signal.SIGSTOP)
        try:
            begun = time.monotonic()
            assert Container.get(container.id).state == "RUNNING"
            assert time.monotonic() - begun < patience(9)
        finally:
            os.kill(keeper, signal.SIGCONT)


def test_a_command_that_is_pid_1_is_found_too(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs, pid1=True) as container:
        found = Container.get(container.id)
        assert found.state == "RUNNING"
        with pytest.raises(pc.NotSupported, match="pid1"):
            found.exec(["true"])
        found.kill()
        assert found.wait(timeout=patience(5)) == container.wait(timeout=patience(5)) == -9


def test_a_forked_copy_has_no_part_in_it(rootfs: Path) -> None:
    with Container(SLEEP, image=rootfs) as container:
        found = Container.get(container.id)
        child = os.fork()
        if child == 0:
            codes = 0
            for call in (found.poll, found.kill, lambda: found.exec(["true"]), lambda: found.send_signal("TERM")):
                try:
                    call()
                except pc.StateError:
                    codes += 1
            os._exit(codes)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
        assert found.exec(["true"]).returncode == 0


def test_a_container_runs_where_there_is_no_place_to_be_found_at(rootfs: Path) -> None:
    code = """
import os, sys
import pycontainer._native
core = pycontainer._native.core()
class Deaf:
    def __getattr__(self, name):
        return (lambda: None) if name == "registry_home" else getattr(core, name)
pycontainer._registry.core = lambda: Deaf()
pycontainer._registry._names = lambda: "/proc/self/no-such-place"
with Container(["sleep", "100"], image=sys.argv[1], name="unseen") as container:
    container._withdraw()
    print(container.exec(["echo", "here"], text=True).stdout)
"""
    assert elsewhere("import pycontainer._registry\n" + code, str(rootfs)).strip() == "here"
