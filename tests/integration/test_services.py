"""Real services, as somebody's tests would use them: PostgreSQL and Redis of this machine's packages in containers."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import pycontainer as pc
from pace import patience
from pycontainer import Container, Reason
from requirements import postgresql_programs

# PostgreSQL refuses to be root: the container needs a second id.
pytestmark = pytest.mark.requires("ids")
needs_postgresql = pytest.mark.requires("postgresql")

DATA = "/tmp/data"
PASSWORD = b"correct horse\n"
MAKE = f"initdb --pgdata={DATA} --username=shop --pwfile=/in/password --auth=scram-sha-256 --locale=C.UTF-8 --no-sync"
SERVE = ["postgres", "-D", DATA, "-c", "unix_socket_directories=/tmp"]
MAKE_AND_SERVE = ["sh", "-ec", f"{MAKE}\nexec {' '.join(SERVE)}"]
READY = "database system is ready to accept connections"
DOWN = b"database system is shut down"


def database(command: Sequence[str] = MAKE_AND_SERVE, **more: object) -> Container:
    """A container that can be a database, not started."""
    environ = {"PGHOST": "/tmp", "PGUSER": "shop", "PGDATABASE": "postgres", "PGPASSWORD": PASSWORD.decode().strip()}
    return Container(
        command,
        user="nobody",
        files={"/in/password": PASSWORD},
        env={"PATH": f"{postgresql_programs()}:/usr/bin:/bin", **environ},
        **more,  # type: ignore[arg-type]
    )


def wait_for_database(container: Container) -> None:
    container.wait_for(pc.wait.log(READY), pc.wait.port(5432), timeout=patience(60))


def ask(container: Container, query: str) -> str:
    """By psql, inside."""
    words = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--command", query]
    return str(container.exec(words, text=True, check=True, timeout=patience(30)).stdout.strip())


def ask_from_here(container: Container, query: str) -> str:
    """By psql, on this machine, over the published port."""
    host, port = container.ports[5432]
    done = subprocess.run(
        [f"{postgresql_programs()}/psql", "--no-psqlrc", "--tuples-only", "--no-align", "--command", query],
        env={"PGHOST": host, "PGPORT": str(port), "PGUSER": "shop", "PGDATABASE": "postgres", "PGCONNECT_TIMEOUT": "20"}
        | {"PGPASSWORD": PASSWORD.decode().strip(), "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_postgresql
def test_a_database_is_started_asked_watched_copied_from_and_stopped(tmp_path: Path) -> None:
    with database(ports={5432: 0}) as container:
        wait_for_database(container)
        ask(container, "create table visits as select generate_series(1, 1000) as n")
        assert ask_from_here(container, "select sum(n) from visits") == "500500"
        before = container.stats()
        assert before.cpu is not None
        assert before.pids is not None
        assert before.pids >= 5  # the server and those that it starts for itself
        assert ask_from_here(container, "select count(distinct n % 7) from generate_series(1, 200000) n") == "7"
        after = container.stats()
        assert after.cpu is not None
        assert after.cpu > before.cpu
        container.exec(["pg_dump", "--table=visits", "--file=/tmp/visits.sql"], check=True, timeout=patience(30))
        container.copy_out("/tmp/visits.sql", tmp_path / "visits.sql")
        assert "\n1000\n" in (tmp_path / "visits.sql").read_text()
        container.stop(grace=patience(30))
        assert (container.returncode, container.result and container.result.reason) == (0, Reason.STOPPED)
        assert DOWN in container.logs().splitlines()[-1]


@needs_postgresql
def test_two_databases_at_once_have_a_port_each() -> None:
    with database(ports={5432: 0}) as first, database(ports={5432: 0}) as second:
        both = {"first": first, "second": second}
        for name, container in both.items():
            wait_for_database(container)
            ask(container, f"create table mine as select '{name}'::text as name")
        assert first.ports[5432] != second.ports[5432]
        for name, container in both.items():
            assert ask_from_here(container, "select name from mine") == name
        first.stop(grace=patience(30))
        assert first.returncode == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(first.ports[5432], timeout=patience(5))
        assert ask_from_here(second, "select name from mine") == "second"


@needs_postgresql
def test_data_on_the_disk_outlive_a_server_that_popen_started() -> None:
    with database(["sleep", "1000"], upper="disk") as container:
        container.exec(["sh", "-ec", MAKE], check=True, timeout=patience(60))
        for expected in ("", "kept"):
            server = container.popen(SERVE)
            # Its words are not in the container's log, and the port is open before the database is.
            container.wait_for(pc.wait.exec(["pg_isready"]), timeout=patience(60))
            ask(container, "create table if not exists visits (who text)")
            assert ask(container, "select who from visits") == expected
            ask(container, "insert into visits values ('kept')")
            server.terminate()
            assert server.wait(timeout=patience(30)) == 0
        assert container.state == "RUNNING"


@needs_postgresql
@pytest.mark.requires("user")
def test_data_on_a_bind_are_its_user_s_who_is_nobody_inside(scratch: Path) -> None:
    mine = (pwd.getpwuid(os.geteuid()).pw_name, str(os.geteuid()))
    ranges = [row.split(":") for row in Path("/etc/subuid").read_text().split()]
    first = next(int(start) for name, start, _count in ranges if name in mine)
    maps = [pc.IdMap(65534, os.geteuid(), 1), pc.IdMap(0, first, 65534)]
    place = scratch / "database"
    place.mkdir()
    mounts = [pc.Mount.bind(place, DATA)]
    for command, expected in ((MAKE_AND_SERVE, ""), (SERVE, "kept")):
        with database(command, mounts=mounts, security=pc.Security(user_namespace=maps)) as container:
            wait_for_database(container)
            ask(container, "create table if not exists visits (who text)")
            assert ask(container, "select who from visits") == expected
            ask(container, "insert into visits values ('kept')")
            container.stop(grace=patience(30))
            assert container.returncode == 0
    assert {path.stat().st_uid for path in [place, *place.rglob("*")]} == {os.geteuid()}


class Redis:
    """A client of Redis' protocol, of a few lines."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=patience(20))
        self.answers = self.socket.makefile("rb")

    def ask(self, *words: str) -> bytes:
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words))
        answer: bytes = self.answers.readline().rstrip()
        return self.answers.read(int(answer[1:]) + 2)[:-2] if answer.startswith(b"$") else answer

    def close(self) -> None:
        self.answers.close()
        self.socket.close()


@pytest.fixture
def dump() -> Iterator[bytes]:
    """What a Redis in a container saved: visits is 42."""
    with redis_server(mounts=[pc.Mount.tmpfs("/data")]) as container:
        client = Redis(container.ports[6379])
        try:
            assert client.ask("SET", "visits", "41") == b"+OK"
            assert container.exec(["redis-cli", "incr", "visits"], text=True).stdout.strip() == "42"
            assert client.ask("GET", "visits") == b"42"
            assert client.ask("SAVE") == b"+OK"
        finally:
            client.close()
        yield container.read_bytes("/data/dump.rdb")
        container.stop(grace=patience(30))
        assert container.returncode == 0
        assert b"ready to exit" in container.logs()


def redis_server(**more: object) -> Container:
    """Started, and ready."""
    container = Container(["redis-server", "--dir", "/data"], ports={6379: 0}, **more).start()  # type: ignore[arg-type]
    container.wait_for(pc.wait.log("Ready to accept connections"), pc.wait.port(6379), timeout=patience(60))
    return container


@pytest.mark.requires("program:redis-server")
def test_what_redis_saves_another_one_finds(dump: bytes) -> None:
    with redis_server(files={"/data/dump.rdb": dump}) as container:
        assert container.exec(["redis-cli", "get", "visits"], text=True).stdout.strip() == "42"
