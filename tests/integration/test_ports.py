"""Published ports: what comes to this machine's loopback reaches a program inside, and nothing gets out."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import leaks
import pycontainer as pc
from pace import patience
from programs.loads import Load
from pycontainer._native import core

pytest_plugins = ["programs.loads"]
FAMILIES = {"v4": (socket.AF_INET, "127.0.0.1"), "v6": (socket.AF_INET6, "::1")}
MIB = 1 << 20
# One program, whose arguments say what it does at which port: PROTOCOL FAMILY PORT ANSWER. It ends with its stdin.
SERVER = """
import os, selectors, socket, sys
ADDRESSES = {"v4": (socket.AF_INET, "127.0.0.1"), "v6": (socket.AF_INET6, "::1")}
waiting = selectors.DefaultSelector()

def echo(client, data):
    if not data:
        raise EOFError
    client.setblocking(True)
    client.sendall(data)
    client.setblocking(False)

def count(client, data):
    totals[client] = totals.get(client, 0) + len(data)
    if not data:
        client.sendall(str(totals[client]).encode())
        raise EOFError

def told(client, data):
    if not data:
        raise EOFError
    print(data.decode(), flush=True)

def reset(client, data):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
    raise EOFError

def bye(client, data):
    client.setblocking(True)
    client.sendall(b"x" * (4 << 20))
    print("sent", flush=True)
    os._exit(0)

def still(client, data):
    waiting.unregister(client)

totals = {}
for number in range(1, len(sys.argv), 4):
    protocol, family, port, how = sys.argv[number:number + 4]
    kind, address = ADDRESSES[family]
    listener = socket.socket(kind, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, int(port)))
    if protocol == "tcp":
        listener.listen(4096)
    waiting.register(listener, selectors.EVENT_READ, (protocol, globals()[how]))
waiting.register(0, selectors.EVENT_READ, None)
print("ready", flush=True)
while True:
    for key, _ in waiting.select():
        if key.fd == 0:
            sys.exit()
        kind, how = key.data
        if kind == "udp":
            data, peer = key.fileobj.recvfrom(65536)
            key.fileobj.sendto(data, peer)
        elif kind == "tcp":
            client, _ = key.fileobj.accept()
            client.setblocking(False)
            waiting.register(client, selectors.EVENT_READ, ("client", how))
        else:
            try:
                how(key.fileobj, key.fileobj.recv(65536))
            except EOFError:
                waiting.unregister(key.fileobj)
                key.fileobj.close()
            except OSError as error:
                print(type(error).__name__, flush=True)
                waiting.unregister(key.fileobj)
                key.fileobj.close()
"""


class Service:
    """A container that serves while the block lasts: its ports here, what it prints, and its Result afterwards."""

    def __init__(self, what: str, **options: Any) -> None:
        words = what.split()
        self.ports = {(words[i], int(words[i + 2])): free_port() for i in range(0, len(words), 4)}
        keys = {(protocol, port): port if protocol == "tcp" else f"{port}/udp" for protocol, port in self.ports}
        options.setdefault("ports", {keys[key]: here for key, here in self.ports.items()})
        stdin, self._stdin = os.pipe()
        out, stdout = os.pipe()
        self.output = open(out, encoding="utf-8")  # noqa: SIM115  closed by __exit__
        options |= {"stdin": stdin, "stdout": stdout}
        self._thread = threading.Thread(target=self._run, args=(["python3", "-c", SERVER, *words], options))
        self._ours = [stdin, stdout]
        self.result: pc.Result[bytes]

    def _run(self, argv: list[str], options: dict[str, Any]) -> None:
        try:
            self.result = pc.run(argv, **options)
        finally:
            for fd in self._ours:
                os.close(fd)

    def __enter__(self) -> Service:
        self._thread.start()
        assert self.output.readline() == "ready\n"
        return self

    def end(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
        self.ended()

    def ended(self) -> None:
        self._thread.join()

    def __exit__(self, *_: object) -> None:
        self.end()
        self.output.close()

    def port(self, inside: int = 80, protocol: str = "tcp") -> int:
        return self.ports[protocol, inside]


def free_port() -> int:
    """One that is free for both families and both protocols, as far as anybody can say."""
    while True:
        with contextlib.ExitStack() as held:
            number = 0
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                for family, address in FAMILIES.values():
                    taken = held.enter_context(socket.socket(family, kind))
                    try:
                        taken.bind((address, number))
                    except OSError as error:
                        if error.errno == errno.EADDRINUSE:
                            break
                        continue
                    number = taken.getsockname()[1]
                else:
                    continue
                break
            else:
                return number


def connect(port: int, here: str = "v4") -> socket.socket:
    family, address = FAMILIES[here]
    client = socket.socket(family, socket.SOCK_STREAM)
    client.settimeout(patience(10))
    client.connect((address, port))
    return client


def everything(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def porters() -> list[int]:
    """Of this process's containers: the keeper's children of that name."""
    pid, _ = core().keeper_pid()
    keeper = f"\nPPid:\t{pid}\n"
    pids = sorted(int(row.split()[1]) for row in leaks.porters())
    return [pid for pid in pids if keeper in Path(f"/proc/{pid}/status").read_text()]


@pytest.mark.parameter("run.ports")
def test_one_static_program_serves(load: Load) -> None:
    port = free_port()
    out, stdout = os.pipe()
    with concurrent.futures.ThreadPoolExecutor(1) as beside, open(out, "rb") as lines:
        running = beside.submit(lambda: load("serve", 80, ports={80: port}, stdout=stdout))
        assert lines.readline() == b"listening\n"
        os.close(stdout)
        with connect(port) as client:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            assert everything(client) == b"hello"
        assert running.result().returncode == 0


def test_a_handle_says_where_its_ports_are() -> None:
    keys: list[int | str] = [80, "81/tcp", "80/udp"]
    container = pc.Container(["python3", "-c", SERVER, "tcp", "v4", "80", "echo"], ports=dict.fromkeys(keys, 0))
    with pytest.raises(pc.StateError):
        container.ports.items()
    with container:
        ports = container.ports
        assert list(ports) == keys
        assert {address for address, _ in ports.values()} == {"127.0.0.1"}
        assert len({ports[80], ports["81/tcp"]}) == 2
    assert container.ports == ports


@pytest.mark.parametrize("inside", FAMILIES)
@pytest.mark.parametrize("here", FAMILIES)
def test_a_connection_reaches_the_program_and_its_answer_comes_back(inside: str, here: str) -> None:
    with Service(f"tcp {inside} 80 echo") as service:
        for _ in range(3):
            with connect(service.port(), here) as client:
                for word in (b"one", b"two"):
                    client.sendall(word)
                    assert client.recv(100) == word
                client.shutdown(socket.SHUT_WR)
                assert client.recv(100) == b""
    assert service.result.returncode == 0


@pytest.mark.parametrize("inside", FAMILIES)
@pytest.mark.parametrize("here", FAMILIES)
def test_a_datagram_reaches_the_program_and_each_sender_gets_his_answer(inside: str, here: str) -> None:
    family, address = FAMILIES[here]
    with Service(f"udp {inside} 53 echo") as service, contextlib.ExitStack() as open_ones:
        clients = [open_ones.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in range(20)]
        for turn in range(2):
            for number, client in enumerate(clients):
                client.settimeout(patience(10))
                client.sendto(b"%d %d" % (turn, number), (address, service.port(53, "udp")))
            assert [client.recv(100) for client in clients] == [b"%d %d" % (turn, number) for number in range(20)]
        longest = os.urandom(60000)
        clients[0].sendto(longest, (address, service.port(53, "udp")))
        assert clients[0].recv(65536) == longest


def test_both_protocols_have_their_own_ports_of_one_number() -> None:
    with Service("tcp v4 80 echo tcp v4 81 count udp v4 80 echo") as service:
        with connect(service.port(80)) as client:
            client.sendall(b"a")
            assert client.recv(1) == b"a"
        with connect(service.port(81)) as client:
            client.sendall(b"abc")
            client.shutdown(socket.SHUT_WR)
            assert everything(client) == b"3"


def test_an_end_is_passed_on_while_the_other_way_stays_open() -> None:
    """The program answers when it has read to the end."""
    with Service("tcp v4 80 count") as service, connect(service.port()) as client:
        client.sendall(b"x" * MIB)
        client.settimeout(patience(0.3))
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(patience(10))
        client.shutdown(socket.SHUT_WR)
        assert everything(client) == str(MIB).encode()


def test_who_does_not_read_stops_who_sends_and_nothing_is_lost() -> None:
    """The program that echoes stops reading when nobody takes its answers: so does the porter, and then the sender."""
    data = os.urandom(MIB) * 64
    with Service("tcp v4 80 echo") as service, connect(service.port()) as client:
        client.settimeout(patience(1))
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < len(data):
                sent += client.send(data[sent : sent + 65536])
        assert MIB <= sent < len(data)
        (porter,) = porters()
        assert resident(porter) < 4 * MIB
        client.settimeout(patience(30))
        with concurrent.futures.ThreadPoolExecutor(1) as beside:
            answer = beside.submit(everything, client)
            client.sendall(data[sent : sent + MIB])
            client.shutdown(socket.SHUT_WR)
            assert answer.result() == data[: sent + MIB]


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_a_connection_that_breaks_here_breaks_inside() -> None:
    with Service("tcp v4 80 told") as service:
        client = connect(service.port())
        client.sendall(b"here")
        assert service.output.readline() == "here\n"
        reset(client)
        assert service.output.readline() == "ConnectionResetError\n"
        with connect(service.port()) as client:  # the control: an end is none
            client.sendall(b"again")
            assert service.output.readline() == "again\n"
    assert service.result.returncode == 0


def test_a_connection_that_breaks_inside_breaks_here() -> None:
    with Service("tcp v4 80 reset") as service, connect(service.port()) as client:
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_two_hundred_at_once() -> None:
    with Service("tcp v4 80 echo") as service, contextlib.ExitStack() as open_ones:
        clients = [open_ones.enter_context(connect(service.port())) for _ in range(200)]
        for number, client in enumerate(clients):
            client.sendall(b"%03d" % number * 1000)
        for number, client in enumerate(clients):
            client.shutdown(socket.SHUT_WR)
            assert everything(client) == b"%03d" % number * 1000


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.requires("nofile>=4096")
def test_more_than_a_porter_holds_wait_until_one_has_ended(many_descriptors: None) -> None:
    limits = pc.Limits(rlimits={"nofile": 4096})
    with Service("tcp v4 80 echo", limits=limits) as service, contextlib.ExitStack() as open_ones:
        clients = [open_ones.enter_context(connect(service.port())) for _ in range(1025)]
        for client in clients:
            client.sendall(b"x")
        assert [client.recv(1) for client in clients[:-1]] == [b"x"] * 1024
        clients[-1].settimeout(patience(0.3))
        with pytest.raises(TimeoutError):
            clients[-1].recv(1)
        clients[-1].settimeout(patience(10))
        clients[500].close()
        assert clients[-1].recv(1) == b"x"


def test_where_nobody_listens_inside_a_connection_is_reset() -> None:
    with Service("tcp v4 80 echo", ports={80: (here := free_port()), 81: (nobody := free_port())}):
        for _ in range(2):
            with pytest.raises(ConnectionResetError), connect(nobody) as client:
                client.recv(1)
        with connect(here) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"


def test_the_container_ends_and_so_do_its_connections_and_its_ports() -> None:
    with Service("tcp v4 80 still udp v4 80 echo") as service:
        clients = [connect(service.port(), here) for here in FAMILIES]
        for client in clients:
            client.sendall(b"x" * 1000)
        service.end()
        assert porters() == []
        for client in clients:
            with client, contextlib.suppress(ConnectionResetError):
                assert everything(client) == b""
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET, kind) as taken:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                taken.bind(("127.0.0.1", service.port(80, "tcp" if kind == socket.SOCK_STREAM else "udp")))
                if kind == socket.SOCK_STREAM:
                    taken.listen()


def test_what_a_program_sent_before_it_ended_arrives() -> None:
    """It has written all and exits while nobody here reads: a part is in sockets of a container that is no more."""
    with Service("tcp v4 80 bye") as service, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.settimeout(patience(10))
        client.connect(("127.0.0.1", service.port()))
        client.sendall(b"x")
        assert service.output.readline() == "sent\n"
        time.sleep(0.05)
        arrived = len(everything(client))
        assert arrived == 4 * MIB
        service.ended()
        assert service.result.returncode == 0


def test_a_timeout_ends_a_service_with_open_connections() -> None:
    with Service("tcp v4 80 echo", limits=pc.Limits(wall_time=patience(1.5))) as service:
        with connect(service.port()) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            service.ended()
        assert service.result.reason is pc.Reason.TIMEOUT


def test_nobody_listens_on_another_address_of_this_machine() -> None:
    with Service("tcp v4 80 echo") as service, socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.2", service.port()))


INSIDE = """
import errno, json, os, socket, sys
def refusal(family, address):
    with socket.socket(family) as s:
        try:
            s.connect((address, int(sys.argv[1])))
        except OSError as error:
            return errno.errorcode[error.errno]
    return "connected"
seen = {
    "interfaces": [name for _, name in socket.if_nameindex()],
    "routes": open("/proc/net/route").read().splitlines()[1:],
    "names": sorted(open(f"/proc/{pid}/comm").read().strip() for pid in os.listdir("/proc") if pid.isdigit()),
    "here": refusal(socket.AF_INET, "127.0.0.1"),
    "here6": refusal(socket.AF_INET6, "::1"),
    "elsewhere": refusal(socket.AF_INET, "192.0.2.1"),
    "sockets": [line.split()[3] for line in open("/proc/net/tcp").read().splitlines()[1:]],
    "fds": sorted(os.listdir("/proc/self/fd"))[:3],
}
print(json.dumps(seen))
"""


def test_the_way_leads_in_and_not_out() -> None:
    """A listener of this machine is out of reach, and nothing of the porter shows inside."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.getsockname()[1]
        ran = pc.run(["python3", "-c", INSIDE, str(number)], ports={80: 0, "53/udp": 0})
    seen = json.loads(ran.stdout)
    assert seen["interfaces"] == ["lo"]
    assert seen["routes"] == []
    assert seen["sockets"] == []
    assert (seen["here"], seen["here6"], seen["elsewhere"]) == ("ECONNREFUSED", "ECONNREFUSED", "ENETUNREACH")
    assert len(seen["names"]) == 2
    assert leaks.PORTER not in seen["names"]


def test_the_porter_has_no_power_no_file_and_no_descriptor_that_is_not_its_own() -> None:
    with Service("tcp v4 80 echo") as service, connect(service.port()) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        (porter,) = porters()
        lines = Path(f"/proc/{porter}/status").read_text().splitlines()
        status = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
        assert {status[name][0] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], len(status["NSpid"])) == (["1"], 1)
        if os.geteuid() == 0:
            assert status["Groups"] == []
            assert int(status["Uid"][1]) >= 0x70000000
            assert int(status["Uid"][1]) % 65536 == 65535
            open_ones = [os.readlink(fd) for fd in Path(f"/proc/{porter}/fd").iterdir()]
            # Two that listen, two of the connection, epoll and the container's pidfd.
            assert sum(target.startswith("socket:") for target in open_ones) == 4
            assert sum("pidfd" in target or "eventpoll" in target for target in open_ones) == 2 == len(open_ones) - 4
            own = os.stat("/proc/self/ns/net").st_ino
            assert os.stat(f"/proc/{porter}/ns/net").st_ino != own
            assert os.stat(f"/proc/{porter}/ns/user").st_ino == os.stat("/proc/self/ns/user").st_ino


@pytest.mark.requires("root")
def test_a_porter_of_this_machines_root_is_nobody() -> None:
    security = pc.Security(user_namespace="host")
    with Service("tcp v4 80 echo", security=security) as service, connect(service.port()) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        (porter,) = porters()
        status = Path(f"/proc/{porter}/status").read_text()
        assert "\nUid:\t65534\t65534\t65534\t65534\n" in status


@pytest.mark.parametrize("here", FAMILIES)
def test_a_port_that_is_taken_is_an_error_before_anything_starts(here: str) -> None:
    family, address = FAMILIES[here]
    with socket.create_server((address, 0), family=family) as theirs:
        number = theirs.getsockname()[1]
        with pytest.raises(pc.SetupError) as caught:
            pc.run(["true"], ports={5432: number})
    assert caught.value.errno == errno.EADDRINUSE
    assert str(caught.value).startswith("ports[5432]: listen on ")
    assert str(number) in str(caught.value.filename)
    with socket.create_server(("127.0.0.1", number)):  # what was opened before is closed
        pass


@pytest.mark.requires("user")
def test_a_low_port_is_roots() -> None:
    with pytest.raises(pc.SetupError) as caught:
        pc.run(["true"], ports={80: 80})
    assert (caught.value.errno, "ip_unprivileged_port_start" in str(caught.value)) == (errno.EACCES, True)


def test_the_porter_is_none_of_the_container_s_tasks(load: Load) -> None:
    """The default bound is the user namespace's, which counts by uid."""
    without, with_one = (load("tasks", "thread", 0, 2500, ports=ports).stdout for ports in ({}, {80: 0}))
    assert with_one == without
    assert b"EAGAIN" in without


def test_a_command_that_is_pid_1_has_ports_too() -> None:
    with Service("tcp v4 80 echo", pid1=True) as service, connect(service.port()) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"


KILLED = """
import os, sys
import pycontainer as pc
words = ["tcp", "v4", "80", "still"]
pc.run(["python3", "-c", sys.argv[1], *words], ports={80: int(sys.argv[2])}, stdin=os.pipe()[0], stdout=pc.INHERIT)
"""


def test_the_host_is_killed_and_its_porter_goes_too() -> None:
    port, before = free_port(), leaks.porters()
    child = subprocess.Popen([sys.executable, "-c", KILLED, SERVER, str(port)], stdout=subprocess.PIPE)
    with child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            client = connect(port)
            assert len(leaks.porters() - before) == 1
        finally:
            child.kill()
    deadline = time.monotonic() + patience(2)
    while leaks.porters() - before:
        assert time.monotonic() < deadline, "a porter outlives its host"
        time.sleep(0.02)
    with client, contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    with socket.socket() as again, pytest.raises(ConnectionRefusedError):
        again.connect(("127.0.0.1", port))


@pytest.mark.requires("root")
def test_a_porter_that_is_killed_takes_its_ports_and_nothing_else() -> None:
    with Service("tcp v4 80 told") as service:
        client = connect(service.port())
        client.sendall(b"here")
        assert service.output.readline() == "here\n"
        (porter,) = porters()
        os.kill(porter, 9)
        with client, contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        with socket.socket() as again, pytest.raises(ConnectionRefusedError):
            again.connect(("127.0.0.1", service.port()))
    assert service.result.returncode == 0
