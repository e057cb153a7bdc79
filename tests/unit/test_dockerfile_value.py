"""pc.Dockerfile: methods that are instructions, text that reads back, arguments that are refused by their names."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

import pytest

from pycontainer._build.commands import run_command
from pycontainer._build.parse import parse
from pycontainer._build.scope import Scope
from pycontainer._dockerfile import Dockerfile

D = Dockerfile("debian:12")


def line(d: Dockerfile) -> str:
    """What was added to the first line."""
    return str(d).removeprefix("FROM debian:12\n").removesuffix("\n")


def read(d: Dockerfile, env: dict[str, str] | None = None) -> Any:
    """The last instruction, read back and expanded."""
    return Scope({}, {}, env=env).apply(parse(str(d)).instructions[-1])


def test_the_example_of_the_page() -> None:
    d = Dockerfile("python:3.13-slim").run(["pip", "install", "rich"]).copy("app.py", "/app/").env(A="1")
    assert str(d.workdir("/app").cmd(["python", "app.py"])) == (
        "FROM python:3.13-slim\n"
        'RUN ["pip", "install", "rich"]\n'
        "COPY app.py /app/\n"
        "ENV A=1\n"
        "WORKDIR /app\n"
        'CMD ["python", "app.py"]\n'
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda d: d.stage("d", "b", platform="linux/arm64"), "FROM --platform=linux/arm64 d AS b"),
        (lambda d: d.arg("A"), "ARG A"),
        (lambda d: d.arg("A", ""), 'ARG A=""'),
        (lambda d: d.arg("A", "$B"), 'ARG A="\\$B"'),
        (lambda d: d.arg("A", "$B", expand=True), 'ARG A="$B"'),
        (lambda d: d.env(A="1", B="x y"), 'ENV A=1 B="x y"'),
        (lambda d: d.env({"expand": "1"}), "ENV expand=1"),
        (lambda d: d.env(PATH="/x:$PATH", expand=True), 'ENV PATH="/x:$PATH"'),
        (lambda d: d.env(A="5$ ${", expand=True), 'ENV A="5\\$ \\${"'),
        (lambda d: d.label({"org.x/y": "z", "a b": 'q"'}), 'LABEL org.x/y=z "a b"="q\\""'),
        (lambda d: d.run("make && make install"), "RUN make && make install"),
        (lambda d: d.run(["a", PurePosixPath("b c")]), 'RUN ["a", "b c"]'),
        (lambda d: d.run("a\nb"), "RUN <<EOF\na\nb\nEOF"),
        (lambda d: d.run("a\nEOF\nb\n"), "RUN <<EOF2\na\nEOF\nb\nEOF2"),
        (lambda d: d.run("cat <<X"), "RUN <<EOF\ncat <<X\nEOF"),
        (lambda d: d.run('["x"]'), 'RUN <<EOF\n["x"]\nEOF'),
        (lambda d: d.run("--x"), "RUN <<EOF\n--x\nEOF"),
        (lambda d: d.run("a \\"), "RUN <<EOF\na \\\nEOF"),
        (lambda d: d.run("a", network="none"), "RUN --network=none a"),
        (
            lambda d: d.run("a", mounts=["type=cache,target=/c", {"type": "secret", "id": "t", "mode": 0o400}]),
            "RUN --mount=type=cache,target=/c --mount=type=secret,id=t,mode=400 a",
        ),
        (lambda d: d.copy("a b", "/c"), 'COPY ["a b", "/c"]'),
        (lambda d: d.copy("--a", "/c"), 'COPY ["--a", "/c"]'),
        (lambda d: d.copy("[a]*", "/c"), 'COPY ["[a]*", "/c"]'),
        (lambda d: d.copy("<<a", "/c"), "COPY \\<\\<a /c"),
        (
            lambda d: d.copy(
                "a", "b", "/c/", from_="x", chown="1:2", chmod=0o755, link=True, parents=True, exclude=["*"]
            ),
            "COPY --from=x --chown=1:2 --chmod=755 --link --parents --exclude=* a b /c/",
        ),
        (lambda d: d.copy({"f": "x\n", "g": ""}, "/d/"), 'COPY <<"f" <<"g" /d/\nx\nf\ng'),
        (lambda d: d.copy({"f": "$A\n"}, "/d/", expand=True), "COPY <<f /d/\n$A\nf"),
        (lambda d: d.copy("$A", "/$B", chown="$C"), 'COPY --chown="\\\\$C" \\$A /\\$B'),
        (lambda d: d.copy("$A", "/$B", chown="$C", expand=True), "COPY --chown=$C $A /$B"),
        (
            lambda d: d.add("https://e.org/a", "/b", checksum="sha256:" + "0" * 64, unpack=False),
            f"ADD --checksum=sha256:{'0' * 64} --unpack=false https://e.org/a /b",
        ),
        (lambda d: d.expose(80, "53/udp", "1-3"), "EXPOSE 80 53/udp 1-3"),
        (lambda d: d.volume("/a", "/b"), "VOLUME /a /b"),
        (lambda d: d.volume("/a b"), 'VOLUME ["/a b"]'),
        (lambda d: d.user(1000), "USER 1000"),
        (lambda d: d.user("app:app"), "USER app:app"),
        (lambda d: d.workdir("/a b"), 'WORKDIR "/a b"'),
        (lambda d: d.workdir("--x"), "WORKDIR -- --x"),
        (lambda d: d.entrypoint([]), "ENTRYPOINT []"),
        (lambda d: d.entrypoint("a $B"), "ENTRYPOINT a $B"),
        (lambda d: d.cmd("--help"), "CMD -- --help"),
        (lambda d: d.stopsignal("INT"), "STOPSIGNAL INT"),
        (lambda d: d.stopsignal(9), "STOPSIGNAL 9"),
        (lambda d: d.healthcheck(None), "HEALTHCHECK NONE"),
        (
            lambda d: d.healthcheck(["x"], interval=30, timeout=timedelta(minutes=1), start_period=1.5, retries=3),
            'HEALTHCHECK --interval=30s --timeout=60s --start-period=1500000000ns --retries=3 CMD ["x"]',
        ),
        (lambda d: d.healthcheck("curl -f x", start_interval=2), "HEALTHCHECK --start-interval=2s CMD curl -f x"),
        (lambda d: d.shell(["/bin/bash", "-c"]), 'SHELL ["/bin/bash", "-c"]'),
        (lambda d: d.onbuild("RUN make"), "ONBUILD RUN make"),
        (lambda d: d.onbuild("COPY <<E /x\na\nE"), "ONBUILD COPY <<E /x\na\nE"),
    ],
)
def test_instructions(make: Callable[[Dockerfile], Dockerfile], text: str) -> None:
    assert line(make(D)) == text
    assert len(parse(str(make(D).run("true"))).instructions) == 3


@pytest.mark.parametrize(
    "value",
    [
        "$A",
        "${A:-b}",
        "a\\",
        "\\$A",
        "'",
        '"',
        "'\"$\\",
        " a ",
        "a\tb",
        "#x",
        "<<EOF",
        "é☺\u2028",
        "`x`",
        "\\n",
        "a\rb",
    ],
)
def test_values_come_out_as_they_went_in(value: str) -> None:
    env = {"A": "WRONG"}
    assert [item.value for item in read(D.env(X=value, Y=value), env).items] == [value, value]
    assert [item.value for item in read(D.label({value.strip() or "k": value}), env).items] == [value]
    assert read(D.arg("X", value), env).items[0].default == value
    assert read(D.copy(f"a{value}", f"/{value}x", chown=f"u{value}x"), env).sources == (f"a{value}",)
    assert read(D.copy(f"a{value}", f"/{value}x"), env).destination == f"/{value}x"
    assert read(D.copy("a", "b", chown=f"u{value}x"), env).chown == f"u{value}x"
    assert read(D.copy("a", "b", exclude=[value]), env).exclude == (value,)
    assert read(D.volume(f"/{value}x"), env).paths == (f"/{value}x",)
    assert read(D.workdir(f"/{value}x"), env).path == f"/{value}x"
    assert read(D.user(f"u{value}x"), env).user == f"u{value}x"
    assert read(D.cmd([value, "b"]), env).command == (value, "b")
    (mount,) = read(D.run("x", mounts=[{"type": "cache", "target": f"/{value},{value}x", "id": value}]), env).mounts
    assert (mount.target, mount.id) == (f"/{value},{value}x", value)
    command = run_command(read(D.run(f"x{value}y"), env)).argv[2]
    assert command.rstrip("\n") == f"x{value}y"


def test_arguments_before_the_first_from_and_stages() -> None:
    d = Dockerfile("$BASE", name="one", platform="$BUILDPLATFORM", args={"BASE": "debian", "N": None}).stage("one")
    assert str(d) == "ARG BASE=debian\nARG N\nFROM --platform=$BUILDPLATFORM $BASE AS one\nFROM one\n"


def test_it_is_a_value() -> None:
    d = D.env(A="1")
    assert D.env(A="1") == d != D
    assert hash(D.env(A="1")) == hash(d)
    assert pickle.loads(pickle.dumps(d)) == d
    assert str(D) == "FROM debian:12\n"
    assert repr(d) == "<Dockerfile, 2 instructions: 'FROM debian:12'...>"
    with pytest.raises(AttributeError):
        d.x = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda d: Dockerfile(""), ValueError, "base"),
        (lambda d: Dockerfile("a b"), ValueError, "base"),
        (lambda d: Dockerfile("--x"), ValueError, "base"),
        (lambda d: Dockerfile("a\nRUN x"), ValueError, "base has a newline"),
        (lambda d: Dockerfile(1), TypeError, "base must be a str, not int"),
        (lambda d: Dockerfile("a", args=["A"]), TypeError, "args must be a mapping"),
        (lambda d: Dockerfile("a", name="9"), ValueError, "name"),
        (lambda d: Dockerfile("a", name="a\\"), ValueError, "name"),
        (lambda d: d.stage("a", "x y"), ValueError, "name"),
        (lambda d: d.arg("A B"), ValueError, "name must be a name"),
        (lambda d: d.arg("--A"), ValueError, "name"),
        (lambda d: d.arg("A", "x\ny"), ValueError, "default has a newline"),
        (lambda d: d.env(), ValueError, "at least one"),
        (lambda d: d.env(A="x\ny"), ValueError, "'A' has a newline"),
        (lambda d: d.env(A="x\0"), ValueError, "'A' has a NUL"),
        (lambda d: d.env(A=1), TypeError, "'A' must be a str, not int"),
        (lambda d: d.env({"A B": "1"}), ValueError, "a name"),
        (lambda d: d.env({"A=B": "1"}), ValueError, "a name"),
        (lambda d: d.env(["A"]), TypeError, "values must be a mapping"),
        (lambda d: d.env(A="1", expand=1), TypeError, "expand"),
        (lambda d: d.label({"": "1"}), ValueError, "a name"),
        (lambda d: d.label({"a=b": "1"}), ValueError, "a name"),
        (lambda d: d.run([]), ValueError, "command is empty"),
        (lambda d: d.run(""), ValueError, "command is empty"),
        (lambda d: d.run(" \n"), ValueError, "command is empty"),
        (lambda d: d.run(1), TypeError, "command must be a str or a sequence"),
        (lambda d: d.run(["a", 1]), TypeError, r"command\[1\] must be a str"),
        (lambda d: d.run("a", network="bridge"), ValueError, "run: --network"),
        (lambda d: d.run("a", mounts="type=ssh"), TypeError, "mounts must be a sequence"),
        (lambda d: d.run("a", mounts=["type=ssh"]), ValueError, "run: mounts of type ssh"),
        (lambda d: d.run("a", mounts=[1]), TypeError, r"mounts\[0\] must be"),
        (lambda d: d.run("a", mounts=[{"type": "cache"}]), ValueError, "needs a target"),
        (lambda d: d.copy("a"), ValueError, "paths must be sources and a destination"),
        (lambda d: d.copy("a", {"b": ""}), TypeError, "the destination"),
        (lambda d: d.copy("a", 1), TypeError, r"paths\[1\]"),
        (lambda d: d.copy({"a": "x"}, "/b"), ValueError, "must end with a newline"),
        (lambda d: d.copy({"a": "b\na\n"}, "/b"), ValueError, "would end it"),
        (lambda d: d.copy({"a/b": ""}, "/b"), ValueError, "a file's name"),
        (lambda d: d.copy({"a": b""}, "/b"), TypeError, "must be a str"),
        (lambda d: d.copy({"a": ""}, "/b c"), ValueError, "no spaces"),
        (lambda d: d.copy("a", "b", chmod=0o10000), ValueError, "chmod"),
        (lambda d: d.copy("a", "b", chmod="rwx"), ValueError, "copy: --chmod"),
        (lambda d: d.copy("a", "b", exclude="*.o"), TypeError, "exclude must be a sequence"),
        (lambda d: d.copy("a", "b", link="yes"), TypeError, "link"),
        (lambda d: d.copy("a", "b", from_="$X"), ValueError, "copy: no variable"),
        (lambda d: d.copy("http://e.org/x", "b"), ValueError, "use ADD"),
        (lambda d: d.expose(), ValueError, "expose: EXPOSE needs"),
        (lambda d: d.expose(70000), ValueError, r"ports\[0\]"),
        (lambda d: d.expose("x"), ValueError, "takes ports"),
        (lambda d: d.volume(), ValueError, "paths is empty"),
        (lambda d: d.user(""), ValueError, "user must not be empty"),
        (lambda d: d.user(2**32 - 1), ValueError, "user"),
        (lambda d: d.workdir(" /a"), ValueError, "path must not"),
        (lambda d: d.cmd("a\nb"), ValueError, "command has a newline"),
        (lambda d: d.cmd("a\\"), ValueError, "sh"),
        (lambda d: d.cmd('["a"]'), ValueError, "sh"),
        (lambda d: d.cmd(""), ValueError, "sh"),
        (lambda d: d.shell("bash"), TypeError, "command must be a sequence"),
        (lambda d: d.shell([]), ValueError, "shell: SHELL"),
        (lambda d: d.stopsignal("FOO"), ValueError, "stopsignal: STOPSIGNAL"),
        (lambda d: d.stopsignal("INT\\"), ValueError, "stopsignal"),
        (lambda d: d.healthcheck(["a"], interval=0.0001), ValueError, "interval"),
        (lambda d: d.healthcheck(["a"], interval="x"), TypeError, "interval"),
        (lambda d: d.healthcheck(["a"], retries=-1), ValueError, "retries"),
        (lambda d: d.healthcheck([]), ValueError, "healthcheck"),
        (lambda d: d.healthcheck(None, retries=1), ValueError, "stands alone"),
        (lambda d: d.onbuild("FROM a"), ValueError, "instruction: "),
        (lambda d: d.onbuild("RUN a\nRUN b"), ValueError, "instruction: "),
        (lambda d: d.onbuild("RUN a\\"), ValueError, "onbuild"),
        (lambda d: d.env(A="\udcff"), ValueError, "no Unicode text"),
    ],
)
def test_refusals(make: Callable[[Any], object], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as raised:
        make(D)
    assert type(raised.value) is kind
