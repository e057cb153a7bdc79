"""What Image.build, its command and its coroutine refuse, and how."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from building import Builder, failing
from pycontainer import aio, cli


@pytest.mark.parametrize(
    ("options", "kind", "names"),
    [
        ({}, ValueError, "context"),
        ({"dockerfile": 5}, TypeError, "dockerfile"),
        ({"target": 5}, TypeError, "target"),
        ({"tag": b"x"}, TypeError, "tag"),
        ({"tag": "A B"}, pc.InvalidReference, "A B"),
        ({"tag": f"a@sha256:{'0' * 64}"}, ValueError, "tag"),
        ({"args": ["A=1"]}, TypeError, "args"),
        ({"args": {"A": 1}}, TypeError, "args"),
        ({"args": {"A=": "1"}}, ValueError, "args"),
        ({"secrets": {"a": "text"}}, TypeError, "secrets"),
        ({"secrets": b""}, TypeError, "secrets"),
        ({"cache": "no"}, TypeError, "cache"),
        ({"network": "private"}, ValueError, "network"),
        ({"limits": 5}, TypeError, "limits"),
        ({"progress": "yes"}, TypeError, "progress"),
        ({"context": "https://example.com/x.git"}, pc.NotSupported, "context"),
        ({"context": "-"}, pc.NotSupported, "context"),
        ({"context": "/no/such/directory"}, pc.SetupError, "/no/such/directory"),
        ({"context": "/etc/passwd"}, pc.SetupError, "/etc/passwd"),
    ],
)
def test_a_wrong_argument_is_named(options: dict[str, Any], kind: type[Exception], names: str) -> None:
    given = {"dockerfile": pc.Dockerfile("scratch"), **options} if options else {}
    with pytest.raises(kind, match="(?s)" + names.replace("/", "/")):
        pc.Image.build(**given)


def test_a_context_is_a_directory_with_a_dockerfile(builder: Builder, tmp_path: Path) -> None:
    with pytest.raises(pc.SetupError, match="Dockerfile"):
        pc.Image.build(builder.context)
    tar = tmp_path / "context.tar"
    tar.write_bytes(b"")
    with pytest.raises(pc.NotSupported, match="unpack"):
        pc.Image.build(tar)


def test_without_a_context_nothing_is_copied_from_it(builder: Builder) -> None:
    for text in ("COPY f /", "ADD f /", "RUN --mount=target=/x true"):
        error = failing(lambda text=text: builder.build(text, context=False))  # type: ignore[misc]
        assert error.line == 2
        assert "context" in str(error)
    made = pc.Dockerfile("base:1").copy({"inline": "text\n"}, "/")
    assert pc.Image.build(dockerfile=made).open("/inline").read() == b"text\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("COPY nix /", "nix"),
        ("COPY ../x /", "outside"),
        ("COPY ignored /", ".dockerignore"),
        ("ADD https://example.com/x /", "no network"),
        ("COPY --chown=nobody-at-all f /", "nobody-at-all"),
        ("COPY f /bin/sh/x", "sh"),
    ],
)
def test_copies_that_cannot_be(builder: Builder, text: str, says: str) -> None:
    builder.write(f="f", ignored="x", **{".dockerignore": "ignored"})
    error = failing(lambda: builder.build(text))
    assert says in str(error)
    assert error.line == 2


def test_what_is_left_out_is_not_there_by_another_name(builder: Builder) -> None:
    builder.write(secret__key="x", **{".dockerignore": "secret"})
    (builder.context / "link").symlink_to("secret")
    (builder.context / "file").symlink_to("secret/key")
    for text in ("COPY link/key /x", "COPY file /x", "RUN --mount=source=file,target=/x cat /x"):
        assert failing(lambda text=text: builder.build(text)).line == 2  # type: ignore[misc]
    assert "/d/key" not in set(builder.build("COPY . /d/").files())


def test_a_dockerignore_beside_the_dockerfile_comes_first(builder: Builder) -> None:
    own = {".dockerignore": "a", "Dockerfile": "FROM scratch\nCOPY . /", "Dockerfile.dockerignore": "b\nDock*"}
    builder.write(a="a", b="b", **own)
    assert sorted(pc.Image.build(builder.context).files()) == ["/.dockerignore", "/a"]


def test_a_bad_dockerignore_is_an_error_at_its_line(builder: Builder) -> None:
    builder.write(f="f", **{".dockerignore": "ok\n[z-"})
    assert failing(lambda: builder.build("COPY f /")).line == 2


def test_the_command_builds_and_fails_as_docker_does(
    builder: Builder, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "from the environment")
    builder.write(
        Dockerfile="FROM base:1\nARG A\nRUN --mount=type=secret,id=TOKEN cat /run/secrets/TOKEN; echo $A\n"
        "RUN --mount=type=secret,id=f cat /run/secrets/f\nCMD echo hi",
        secret="in a file",
    )
    words = ["build", "-t", "app:1", "-t", "app:2", "--build-arg", "A=1", "--secret", "id=TOKEN"]
    words += ["--secret", f"id=f,src={builder.context}/secret", str(builder.context)]
    assert cli.main(words) == 0
    told = capfd.readouterr()
    assert told.out == ""
    assert "[stage-0 3/5] RUN" in told.err
    assert "from the environment1" in told.err
    assert cli.main(["build", "-q", *words[1:]]) == 0
    assert capfd.readouterr().out == f"{pc.Image.get('app:2').id}\n"
    (builder.context / "Bad").write_text("FROM base:1\nRUN exit 3")
    assert cli.main(["build", "-f", str(builder.context / "Bad"), str(builder.context)]) == 1
    assert "ERROR: failed to build: Bad:2:1: RUN ended with status 3" in capfd.readouterr().err
    for bad in (["--secret", "id="], ["--secret", "nix"], ["--secret", "id=a,b=c"]):
        assert cli.main(["build", *bad, str(builder.context)]) == 125


def test_a_coroutine_builds_tells_and_is_cancelled(builder: Builder) -> None:
    file = builder.context.parent / "Dockerfile"
    file.write_text("FROM base:1\nRUN echo x > /x\nRUN echo begun; sleep 100")

    async def main() -> None:
        events: list[Any] = []
        image = await aio.build(dockerfile=pc.Dockerfile("base:1").run("echo x > /y"), progress=events.append)
        assert image.open("/y").read() == b"x\n"
        assert events
        begun = asyncio.Event()
        task = asyncio.create_task(
            aio.build(dockerfile=file, progress=lambda one: one.text == "begun\n" and begun.set())
        )
        await begun.wait()
        task.cancel()
        now = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - now < 10
        with pytest.raises(pc.BuildError):
            await aio.build(dockerfile=pc.Dockerfile("base:1").run("exit 1"))
        with pytest.raises(TypeError, match="nix"):
            await aio.build(nix=1)

    asyncio.run(main())
