"""wait_for: for each condition a container in which it is not so, and then is; and the waits that end otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from pace import patience
from programs.loads import Load
from pycontainer import aio, wait

pytest_plugins = ["programs.loads"]
# Serves HTTP when its stdin says so, and a directory of its own.
SERVER = """
import http.server, os, socket, sys
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(self.path.rpartition("/")[2]))
        self.end_headers()
class Server(http.server.HTTPServer):
    address_family = socket.AF_INET6 if sys.argv[1] == "v6" else socket.AF_INET
print("begun", flush=True)
sys.stdin.readline()
server = Server(("::1" if sys.argv[1] == "v6" else "127.0.0.1", 8080), Answers)
print("ready", file=sys.stderr, flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def asleep(what: str = "sleep 100", **options: Any) -> Iterator[pc.Container]:
    with pc.Container(["sh", "-c", what], **options) as container:
        yield container


def is_so(container: pc.Container, *conditions: Any) -> bool:
    try:
        container.wait_for(*conditions, timeout=patience(0.15))
    except pc.TimeoutExpired:
        return False
    return True


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_a_server_that_begins_to_serve(family: str) -> None:
    conditions = [wait.log("ready"), wait.port(8080), wait.http(8080, "/200"), wait.http(8080, "/404", status=404)]
    with pc.Container(["python3", "-c", SERVER, family], stdin=pc.PIPE) as container:
        container.wait_for(wait.log("begun"), timeout=patience(10))
        assert not any(is_so(container, condition) for condition in conditions)
        container.stdin.write(b"\n")
        container.stdin.flush()
        container.wait_for(*conditions, timeout=patience(10))
        assert not is_so(container, wait.http(8080, "/503"))
        assert not is_so(container, wait.http(8080, "/200", status=[201, 503]))
        assert not is_so(container, wait.http(8081, "/200"))
        assert not is_so(container, wait.port(8081))
        assert not is_so(container, wait.port("8080/udp"))
        container.wait_for(wait.http(8080, "/503", status=[201, 503]), timeout=patience(10))
        assert container.state == "RUNNING"


def test_one_static_program_is_all_that_the_image_holds(load: Load, scratch: Path) -> None:
    """Nothing of the image could be run for it: there is no shell, no library, no /etc."""
    image = scratch / "one-program"
    image.mkdir()
    shutil.copy(load.root / "bin/load", image / "load")
    with pc.Container(["/load", "serve", "80"], image=image) as container:
        container.wait_for(wait.log("listening"), wait.port(80), timeout=patience(10))
        # It takes one connection, echoes what comes, which is no answer of HTTP's, and ends.
        with pytest.raises(pc.ContainerEnded):
            container.wait_for(wait.http(80), timeout=patience(10))
        assert container.returncode == 0


def test_a_datagram_socket_that_is_bound() -> None:
    bound = "import socket, time; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('127.0.0.1', 53)); time.sleep(100)"
    with pc.Container(["python3", "-c", bound]) as container:
        container.wait_for(wait.port("53/udp"), timeout=patience(10))
        assert not is_so(container, wait.port(53))


def test_a_listener_of_this_machine_is_none_of_the_container_s() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, asleep() as container:
        number = listener.getsockname()[1]
        assert not is_so(container, wait.any_of(wait.port(number), wait.http(number, status=range(100, 600))))


@pytest.mark.parametrize(
    "pattern", ["second line", b"second", re.compile("^sec.*e$", re.MULTILINE), re.compile(rb"nd\b")]
)
def test_a_line_of_the_log(pattern: Any) -> None:
    with asleep("echo first; read x; echo the second line; sleep 100", stdin=pc.PIPE) as container:
        container.wait_for(wait.log("first"), timeout=patience(10))
        assert not is_so(container, wait.log("second"))
        container.stdin.write(b"\n")
        container.stdin.flush()
        if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
            pattern = re.compile("the sec.*e$", re.MULTILINE)
        container.wait_for(wait.log(pattern), timeout=patience(10))
        container.wait_for(wait.log("first"), timeout=patience(10))  # from the beginning, each time


def test_of_one_stream_and_without_a_newline() -> None:
    with asleep("printf 'login: ' >&2; sleep 100") as container:
        container.wait_for(wait.log("login: "), wait.log("login: ", stream="stderr"), timeout=patience(10))
        assert not is_so(container, wait.log("login: ", stream="stdout"))


def test_what_is_logged_is_not_taken_away() -> None:
    with asleep("echo one; echo two; sleep 100") as container:
        container.wait_for(wait.log("two"), timeout=patience(10))
        assert next(container.lines()) == ("stdout", b"one\n")
        assert container.logs() == b"one\ntwo\n"


def test_a_line_wakes_who_waits_for_lines_only() -> None:
    """No pause, and no use of the processor while nothing comes."""
    with asleep("sleep 0.5; echo now; sleep 100") as container:
        before = time.process_time()
        container.wait_for(wait.log("now"), timeout=patience(10))
        assert time.process_time() - before < 0.1


def test_a_command_that_ends_with_0() -> None:
    with asleep("sleep 0.3; : > /tmp/there; sleep 100", env={"WHERE": "/tmp/there"}) as container:
        assert not is_so(container, wait.exec(["false"]))
        container.wait_for(wait.exec(["sh", "-c", 'test -e "$WHERE"']), timeout=patience(10))
        assert not is_so(container, wait.exec(["sh", "-c", 'test -e "$WHERE"'], env={"WHERE": "/nope"}))
        container.wait_for(wait.exec(["test", "-e", "there"], cwd="/tmp"), timeout=patience(10))
        with pytest.raises(pc.CommandNotFound):
            container.wait_for(wait.exec(["no-such-command"]), timeout=patience(10))


def test_a_command_that_hangs_is_ended_with_the_wait() -> None:
    with asleep() as container:
        begin = time.monotonic()
        assert not is_so(container, wait.exec(["sleep", "50"]))
        assert time.monotonic() - begin < patience(5)
        names = container.exec(["sh", "-c", "cat /proc/*/comm"], text=True).stdout.split()
        assert names.count("sleep") == 1


def test_a_file_of_any_kind() -> None:
    make = "sleep 0.3; mkdir /tmp/directory; : > /tmp/empty; echo x > /tmp/full; mkfifo /tmp/fifo; ln -s full /tmp/link"
    with asleep(f"{make}; sleep 100") as container:
        assert not is_so(container, wait.file("/tmp/full"))
        names = ["directory", "empty", "full", "fifo", "link"]
        container.wait_for(*(wait.file(f"/tmp/{name}") for name in names), timeout=patience(10))
        assert not is_so(container, wait.file("/tmp/full/below"))
        assert not is_so(container, wait.file("/tmp/directory/below"))


def test_any_of_several() -> None:
    with asleep("echo b; sleep 100") as container:
        container.wait_for(wait.any_of(wait.log("a"), wait.port(1), wait.log("b")), timeout=patience(10))
        assert not is_so(container, wait.any_of(wait.log("a"), wait.port(1)))


def test_the_time_passes_and_the_container_runs_on() -> None:
    with asleep("echo out; echo err >&2; sleep 100") as container:
        container.wait_for(wait.log("out"), wait.log("err"), timeout=patience(10))
        with pytest.raises(pc.TimeoutExpired) as caught:
            container.wait_for(wait.log("out"), wait.port(80), wait.log("never"), timeout=0.1)
        message = str(caught.value)
        assert "still waiting for port 80, 'never' in the log" in message
        assert message.endswith("the last lines of stdout:\nout\nthe last lines of stderr:\nerr")
        assert (caught.value.stdout, caught.value.stderr, caught.value.result) == (b"out\n", b"err\n", None)
        assert container.state == "RUNNING"
        for timeout in (0, -1):
            container.wait_for(wait.log("out"), timeout=timeout)  # what is so is seen, however short the time
            with pytest.raises(pc.TimeoutExpired):
                container.wait_for(wait.port(80), timeout=timeout)


def test_the_end_before_it_is_an_error_with_the_result() -> None:
    with asleep("echo no >&2; sleep 0.2; exit 3") as container:
        with pytest.raises(pc.ContainerEnded) as caught:
            container.wait_for(wait.port(80), wait.log("no"), timeout=patience(10))
        assert caught.value.result is not None
        assert caught.value.result.returncode == 3
        assert (
            str(caught.value)
            == "the container ended (status 3) before there was port 80\nthe last lines of stderr:\nno"
        )
        with pytest.raises(pc.ContainerEnded):  # and again, at once
            container.wait_for(wait.log("never"))


def test_what_was_said_at_the_end_counts() -> None:
    with asleep("echo ready; exit 0") as container:
        container.wait_for(wait.log("ready"), timeout=patience(10))
        container.wait(timeout=patience(10))
        container.wait_for(wait.log("ready"))


def test_an_output_that_is_not_logged_cannot_be_waited_for() -> None:
    with asleep(stdout=subprocess.PIPE) as container:
        with pytest.raises(pc.StateError, match="not logged"):
            container.wait_for(wait.log("x", stream="stdout"))
        assert not is_so(container, wait.log("x"))  # stderr still is


def test_before_the_start_and_after_the_end_of_the_handle() -> None:
    container = pc.Container(["true"])
    with pytest.raises(pc.StateError):
        container.wait_for(wait.port(80))
    with container:
        for bad, raises in (((), ValueError), ((80,), TypeError)):
            with pytest.raises(raises, match="conditions"):
                container.wait_for(*bad)
    with pytest.raises(pc.StateError):
        container.wait_for(wait.port(80))


def test_http_needs_something_of_ours_inside() -> None:
    with asleep(pid1=True) as container:
        with pytest.raises(pc.NotSupported) as caught:
            container.wait_for(wait.http(80))
        assert caught.value.requirement == "wait.http"
        assert not is_so(container, wait.port(80))


# ---- on asyncio ----------------------------------------------------------------------------------------------------


def test_on_asyncio_each_condition_too() -> None:
    conditions = [
        wait.log("ready"),
        wait.port(8080),
        wait.http(8080, "/200"),
        wait.exec(["true"]),
        wait.file("/etc/passwd"),
        wait.any_of(wait.log("never"), wait.http(8080, "/404", status=404)),
    ]

    async def so(container: aio.Container, condition: Any) -> bool:
        try:
            await container.wait_for(condition, timeout=patience(0.15))
        except pc.TimeoutExpired:
            return False
        return True

    async def main() -> None:
        async with aio.Container(["python3", "-c", SERVER, "v6"], stdin=pc.PIPE, ports={8080: 0}) as container:
            await container.wait_for(wait.log("begun"), timeout=patience(10))
            assert [await so(container, condition) for condition in conditions] == [False] * 3 + [True] * 2 + [False]
            container.stdin.write(b"\n")
            await container.wait_for(*conditions, timeout=patience(10))
            assert not await so(container, wait.http(8080, "/503"))
            assert not await so(container, wait.exec(["sleep", "9"]))
            (where,) = container.ports.values()
            assert where[0] == "127.0.0.1"
            _, writer = await asyncio.open_connection(*where)
            writer.close()

    asyncio.run(main())


def test_on_asyncio_the_loop_goes_on_and_the_ends_are_the_same() -> None:
    async def main() -> None:
        async with aio.Container(["sh", "-c", "echo out; sleep 0.3; exit 3"]) as container:
            ticks = 0
            waits = [
                asyncio.create_task(container.wait_for(condition, timeout=timeout))
                for condition, timeout in [(wait.port(80), None), (wait.log("never"), None), (wait.http(80), 0.1)]
            ]
            while not all(task.done() for task in waits):
                await asyncio.sleep(0.005)
                ticks += 1
            assert ticks > 20
            ended, also, expired = (task.exception() for task in waits)
            assert isinstance(ended, pc.ContainerEnded)
            assert isinstance(also, pc.ContainerEnded)
            assert ended.result is not None
            assert ended.result.returncode == 3
            assert isinstance(expired, pc.TimeoutExpired)
            assert str(expired).endswith("the last lines of stdout:\nout")

    asyncio.run(main())
