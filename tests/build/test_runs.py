"""RUN: what it sees, what it leaves, how it fails; its mounts."""

from __future__ import annotations

import os
import pickle
import secrets
import time
from pathlib import Path

import pytest

import pycontainer as pc
from building import Builder, everything, failing

pytestmark = pytest.mark.requires("userns")


def test_a_failing_run_says_all_of_it(builder: Builder) -> None:
    error = failing(lambda: builder.build("ENV A=1\nRUN echo out; echo err >&2; exit 3\nRUN echo never"))
    assert (error.line, error.step) == (3, "RUN echo out; echo err >&2; exit 3")
    assert error.log is not None
    assert sorted(error.log.splitlines()) == ["err", "out"]
    assert str(error).startswith("Dockerfile:3:1: RUN ended with status 3:")
    assert "err" in str(error)
    assert "never" not in builder.output()
    assert pickle.loads(pickle.dumps(error)).log == error.log


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ("RUN kill -9 $$", "signal 9"),
        ('RUN ["/nix"]', "not found"),
        ("USER nobody-at-all\nRUN true", "nobody-at-all"),
        ("RUN --network=host true", "no network"),
        ("RUN --mount=type=secret,id=s,required true", "was not given"),
        ("RUN --mount=type=bind,source=nix,target=/x true", "nix"),
        ("RUN --mount=type=bind,from=base:1,source=/nix,target=/x true", "nix"),
        ("RUN --mount=type=tmpfs,target=/proc true", "/proc"),
        ("RUN --mount=type=tmpfs,target=/x --mount=type=tmpfs,target=/x true", "two"),
    ],
)
def test_runs_that_cannot_be(builder: Builder, run: str, says: str) -> None:
    error = failing(lambda: builder.build(run))
    assert says in str(error)
    assert error.line == 1 + len(run.splitlines())


def test_a_limit_ends_a_run(builder: Builder) -> None:
    begun = time.monotonic()
    error = failing(lambda: builder.build("RUN sleep 100", limits=pc.Limits(wall_time=0.2)))
    assert "timeout" in str(error)
    assert time.monotonic() - begun < 20


def test_the_long_log_of_a_failing_run_is_its_end(builder: Builder) -> None:
    error = failing(lambda: builder.build("RUN seq 20000; exit 1", progress=False))
    assert error.log is not None
    assert error.log.endswith("\n19999\n20000\n")
    assert len(error.log) <= 16 << 10


def test_what_a_run_finds(builder: Builder) -> None:
    """Row 111: no more than is documented."""
    text = "ENV E=e\nARG A=a\nUSER 5:6\nWORKDIR /tmp\nRUN env | sort; id -u; id -g; pwd; cat /proc/net/dev"
    builder.build(text, args={"http_proxy": "http://proxy", "B": "b"})
    lines = builder.output().splitlines()
    names = {line.partition("=")[0] for line in lines[: lines.index("5")]}
    assert names - {"SHLVL", "OLDPWD"} == {"A", "E", "FROM_BASE", "HOME", "HOSTNAME", "PATH", "PWD", "http_proxy"}
    assert lines[lines.index("5") :][:3] == ["5", "6", "/tmp"]
    assert [line.partition(":")[0].strip() for line in lines if ":" in line and "=" not in line] == ["lo"]


def test_a_proxy_is_in_no_history_and_no_key(builder: Builder) -> None:
    image = builder.build("RUN true", args={"http_proxy": "http://user:password@proxy"})
    assert "password" not in str(image.history) + str(image.config)
    builder.build("RUN true", args={"http_proxy": "http://another"})
    assert builder.kinds() == ["cached"]


def test_heredocs(builder: Builder) -> None:
    script = "RUN <<X\n#!/bin/sh -e\necho $0\nX"
    builder.build(f"RUN <<EOF\necho one\necho two\nEOF\n{script}\nRUN cat <<Y > /y\ntext\nY\nRUN cat /y; ls /dev")
    lines = builder.output().splitlines()
    assert lines[:4] == ["one", "two", "/dev/pipes/X", "text"]
    assert "pipes" not in lines


def test_processes_that_stay_are_gone_before_the_layer_is_taken(builder: Builder) -> None:
    image = builder.build("RUN (while :; do date >> /log; done) & sleep 0.05")
    assert image.open("/log").read()
    image.verify()


def test_a_run_that_changes_nothing_has_no_layer(builder: Builder) -> None:
    mounts = "--mount=type=tmpfs,target=/t --mount=type=secret,id=s --mount=type=cache,target=/c/d"
    image = builder.build(f"RUN {mounts} true", secrets={"s": b"x"})
    assert image.layers == pc.Image.get("base:1").layers


def test_removed_and_replaced(builder: Builder) -> None:
    image = builder.build("RUN echo 1 > /a; mkdir /d; echo 2 > /d/x\nRUN rm /a; rm -r /d; mkdir /d; echo 3 > /d/y")
    files = set(image.files())
    assert "/d/y" in files
    assert not files & {"/a", "/d/x"}


# ---- mounts ------------------------------------------------------------------------------------------------------


def test_binds_of_the_context_write_nowhere(builder: Builder) -> None:
    """Row 104: what is written to a bind is in no context, no store and no image."""
    builder.write(f="f", d__g="g", ignored="i", **{".dockerignore": "ignored"})
    image = builder.build(
        "RUN --mount=target=/ctx cat /ctx/f /ctx/d/g; ls /ctx; ! touch /ctx/x\n"
        "RUN --mount=target=/ctx,rw echo canary-1 > /ctx/x; echo canary-1 > /ctx/f\n"
        "RUN --mount=source=d,target=/d,rw echo canary-2 > /d/x\n"
        "RUN --mount=source=f,target=/one,rw echo canary-3 >> /one; cat /one"
    )
    assert builder.output().startswith("fg")
    assert "ignored" not in builder.output()
    assert builder.output().endswith("fcanary-3\n")
    assert sorted(path.name for path in builder.context.rglob("*")) == [".dockerignore", "d", "f", "g", "ignored"]
    assert (builder.context / "f").read_text() == "f"
    # What says so is in the image's history.
    assert not any(b"canary-1\n" in data or b"canary-2\n" in data for data in everything(builder.store))
    assert image.layers == pc.Image.get("base:1").layers


def test_binds_of_stages_and_images(builder: Builder) -> None:
    builder.build(
        "FROM base:1 AS a\nRUN mkdir -p /out/d; echo A > /out/d/f; rm /bin/ls\nFROM base:1\n"
        "RUN --mount=from=a,source=/out,target=/in cat /in/d/f; ! touch /in/x\n"
        "RUN --mount=from=a,source=/out/d/f,target=/f cat /f\n"
        "RUN --mount=from=base:1,target=/base,rw echo x > /base/x; /base/bin/busybox echo yes"
    )
    assert builder.output().startswith("A\n")
    assert builder.output().endswith("A\nyes\n")


@pytest.mark.requires("ids")
def test_a_whole_image_is_mounted_as_it_is(builder: Builder) -> None:
    """No copy of it is made, so that owners are there, and what its layers delete is not."""
    image = builder.build(
        "FROM base:1 AS a\nRUN echo A > /f; chown 5:6 /f\nRUN rm /bin/ls; mkfifo /fifo\nFROM base:1\n"
        "RUN --mount=from=a,target=/in stat -c '%u:%g' /in/f; test -p /in/fifo; ! touch /in/x; ! test -e /in/bin/ls\n"
        "RUN --mount=from=base:1,source=/,target=in /in/bin/busybox grep -c ' /in ro' /proc/self/mountinfo"
    )
    assert builder.output() == "5:6\ntouch: /in/x: Read-only file system\n1\n"
    assert "/in/f" not in set(image.files())


def test_caches_stay_and_are_no_layer(builder: Builder) -> None:
    text = "RUN --mount=type=cache,target=/c,id={} echo x >> /c/x; wc -l < /c/x"
    for number in (1, 2):
        builder.build(text.format("a"), cache=False)
        assert builder.output().strip() == str(number)
    builder.build(text.format("b"))
    assert builder.output().strip() == "1"
    image = builder.build("RUN --mount=type=cache,target=/c,id=a,ro cat /c/x; ! touch /c/y")
    assert builder.output().startswith("x\nx\n")
    assert "/c/x" not in set(image.files())


@pytest.mark.requires("ids")
def test_a_cache_has_its_owner_and_mode_and_set_id_bits_are_free(builder: Builder) -> None:
    cache = "--mount=type=cache,target=/c,uid=5,gid=6,mode=0750"
    builder.build(f"RUN {cache} stat -c '%a %u:%g' /c; cp /bin/busybox /b; chmod 4755 /b; echo 1 > /c/x")
    assert builder.output() == "750 5:6\n"
    builder.build(f"USER 5:6\nRUN {cache} cat /c/x; echo 2 > /c/y && stat -c '%u:%g' /c/y")
    assert builder.output() == "1\n5:6\n"
    pc.Image.prune_cache()
    assert list((builder.store / "caches").iterdir()) == []


@pytest.mark.requires("ids")
def test_a_secret_has_its_owner(builder: Builder) -> None:
    mount = "--mount=type=secret,id=s,uid=5,gid=6,mode=0400"
    step = f"RUN {mount} stat -c '%a %u:%g' /run/secrets/s; cat /run/secrets/s"
    builder.build(f"USER 5:6\n{step}", secrets={"s": b"told"})
    assert builder.output() == "400 5:6\ntold"


@pytest.mark.requires("user")
def test_an_owner_that_this_user_cannot_be(builder: Builder) -> None:
    error = failing(lambda: builder.build("RUN --mount=type=cache,target=/c,uid=4000000000 true"))
    assert "need a build by root, or by a user in whose range of ids they are" in str(error)


def both(step: str) -> str:
    """Two stages at once, `one` and `two`, which both have to end well."""
    one, two = step.format("one", "two"), step.format("two", "one")
    copies = "COPY --from=one /one /\nCOPY --from=two /two /"
    return f"FROM base:1 AS one\n{one}\nFROM base:1 AS two\n{two}\nFROM scratch\n{copies}"


def test_a_locked_cache_is_of_one_step_at_a_time(builder: Builder) -> None:
    cache = "--mount=type=cache,id=l,target=/c,sharing=locked"
    builder.build(both(f"RUN {cache} set -e; [ ! -e /c/in ]; touch /c/in; sleep 0.1; rm /c/in; echo > /{{0}}"))


def test_a_private_cache_is_another_one_meanwhile(builder: Builder) -> None:
    mounts = "--mount=type=cache,id=p,target=/c,sharing=private --mount=type=cache,id=m,target=/m"
    meet = "touch /m/{0}; until [ -e /m/{1} ]; do sleep 0.01; done"
    step = f"RUN {mounts} set -e; [ ! -e /c/in ]; touch /c/in; {meet}; rm /c/in; echo > /{{0}}"
    builder.build(both(step), limits=pc.Limits(wall_time=20))


def test_a_secret_is_nowhere(builder: Builder, tmp_path: Path) -> None:
    value, other = secrets.token_bytes(16).hex(), secrets.token_bytes(16).hex()
    (tmp_path / "file").write_text(other)
    text = (
        "RUN --mount=type=secret,id=a --mount=type=secret,id=b,target=/root/b,mode=0440"
        " --mount=type=secret,id=a,env=TOKEN wc -c < /run/secrets/a; stat -c %a /root/b; echo $TOKEN | wc -c\n"
        "RUN echo x > /x"
    )
    image = builder.build(text, secrets={"a": value.encode(), "b": tmp_path / "file"})
    assert builder.output().split() == ["32", "440", "33"]
    for needle in (value.encode(), other.encode()):
        assert not any(needle in data for data in everything(builder.store))
        assert needle not in repr(builder.events).encode()
    assert not list(Path("/dev/shm").glob("pycontainer-secrets-*"))
    assert not {"/run/secrets", "/run/secrets/a", "/root/b"} & set(image.files())
    builder.build(text, secrets={"a": b"another", "b": b"one"})
    assert builder.kinds() == ["cached", "cached"]


def test_the_control_of_the_search_for_secrets(builder: Builder) -> None:
    value = secrets.token_bytes(16).hex()
    builder.build("RUN --mount=type=secret,id=a cp /run/secrets/a /leaked", secrets={"a": value.encode()})
    assert any(value.encode() in data for data in everything(builder.store))


def test_a_secret_that_was_not_given_is_not_there(builder: Builder) -> None:
    builder.build("RUN --mount=type=secret,id=a ls /run/secrets 2>&1 || true; echo [$a]")
    assert builder.output().endswith("[]\n")


# ---- attacks -----------------------------------------------------------------------------------------------------


def test_a_source_that_is_a_link_stays_in_its_image(builder: Builder) -> None:
    """Row 101 (CVE-2024-1753)."""
    before = set(os.listdir("/"))
    error = failing(
        lambda: builder.build(
            "FROM base:1 AS a\nRUN ln -s / /rootdir\nFROM base:1\n"
            "RUN --mount=type=bind,from=a,source=/rootdir,target=/x,rw touch /x/BIND_BREAKOUT\n"
            "RUN [ -e /BIND_BREAKOUT ]"
        )
    )
    assert error.line == 5
    assert set(os.listdir("/")) == before
    assert "/BIND_BREAKOUT" not in set(pc.Image.get("base:1").files())


@pytest.mark.parametrize("link", ["/", "../../..", "/etc", "sub/../../.."])
def test_links_of_the_context_lead_nowhere_else(builder: Builder, link: str) -> None:
    """Row 114: through links, with COPY and with a bind."""
    builder.write(inside="x")
    (builder.context / "link").symlink_to(link)
    canary = builder.context.parent / "canary"
    canary.write_text("canary")
    bind = f"RUN --mount=source=link{canary},target=/x cat /x"
    for text in (f"COPY link{canary} /x", "COPY link/../canary /x", bind, "COPY link/passwd /x"):
        assert failing(lambda text=text: builder.build(text)).line == 2  # type: ignore[misc]


def test_a_dockerignore_or_dockerfile_that_leads_out_is_refused(builder: Builder) -> None:
    builder.write(f="x")
    (builder.context / "Dockerfile").symlink_to("/etc/passwd")
    with pytest.raises(pc.SetupError):
        pc.Image.build(builder.context)
    (builder.context / ".dockerignore").symlink_to("/etc/shadow")
    with pytest.raises(pc.SetupError):
        builder.build("COPY f /")


@pytest.mark.parametrize("name", ["../../..", "/etc", "a/b", "..", "x" * 4096, "a\tb", "%2e%2e"])
def test_the_id_of_a_cache_is_no_path(builder: Builder, name: str) -> None:
    """Row 103 (CVE-2024-9675)."""
    builder.build(f"RUN --mount=type=cache,target=/c,id={name} echo canary > /c/canary; ls -a /c/.. | head -3")
    caches = [path.relative_to(builder.store).parts for path in builder.store.rglob("canary")]
    assert [(parts[0], len(parts[1]), parts[2:]) for parts in caches] == [("caches", 64, ("data", "canary"))]


def test_a_cache_that_is_swapped_meanwhile_is_the_one_that_was_mounted(builder: Builder) -> None:
    """Row 97 (CVE-2024-23651): a step can change what is in a cache, and never what stands for it."""
    swap = "for n in $(seq 20); do rm -rf /c/sub; ln -s / /c/sub; rm /c/sub; mkdir /c/sub; done"
    mount = "RUN --mount=type=cache,id=s,target=/c"
    builder.build(f"{mount} {swap}\n{mount} ln -sfn / /c/out; rm -rf /c/out/tmp-canary; echo ok")
    assert builder.output() == "ok\n"
    (data,) = builder.store.glob("caches/*/data")
    assert not data.is_symlink()


def test_a_mount_point_that_is_replaced_leads_nobody(builder: Builder, tmp_path: Path) -> None:
    """Row 98 (CVE-2024-23652): nothing is removed by a path of the image's."""
    canary = tmp_path / "empty"
    canary.mkdir()
    replace = f"mkdir -p /n; ln -s {canary} /n/l; mv /a/b /a/old 2>/dev/null; ln -sfn {canary} /a/b"
    builder.build(f"RUN --mount=type=tmpfs,target=/a/b/c {replace} || true")
    assert canary.is_dir()


def test_syntax_is_recorded_and_never_fetched(builder: Builder) -> None:
    """Row 99."""
    image = builder.build("# syntax=registry.invalid/evil:latest\nFROM base:1\nRUN echo fine")
    assert builder.output() == "fine\n"
    assert image.digest


@pytest.mark.parametrize("word", ["rshared", "z", "remount", "ro,suid", "bind-propagation=rshared"])
def test_no_word_of_a_mount_becomes_an_option(builder: Builder, word: str) -> None:
    """Row 102 (CVE-2024-9407)."""
    assert failing(lambda: builder.build(f"RUN --mount=type=bind,target=/x,{word} true")).line == 2
