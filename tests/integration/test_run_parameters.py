"""What run()'s parameters for the command and its surroundings do, as the probe sees it from inside."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from probing import PROGRAM, Probe, read

parameter = pytest.mark.parameter


def variables(seen: dict[str, Any]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in seen["env"])


@parameter("run.args")
def test_args_arrive_word_by_word_and_byte_by_byte(probe_root: Path) -> None:
    words = ["a b", "", "$HOME", b"\xff\x01", Path("/x"), 'q"\\']
    seen = read(pc.run([PROGRAM, *words], image=probe_root))
    assert seen["argv"] == [PROGRAM, "a b", "", "$HOME", "\xff\x01", "/x", 'q"\\']


@parameter("run.image")
def test_image_is_a_directory_a_path_text_or_an_image(fresh_rootfs: Path, probe: Path) -> None:
    (fresh_rootfs / "bin/probe").write_bytes(probe.read_bytes())
    (fresh_rootfs / "bin/probe").chmod(0o755)
    (fresh_rootfs / "etc/mine").write_text("this one")
    for image in (fresh_rootfs, str(fresh_rootfs), pc.Image.from_directory(fresh_rootfs)):
        assert Probe(fresh_rootfs)("path=/etc/mine", image=image)["paths"]["/etc/mine"]["content"] == "this one"


def test_without_an_image_it_is_this_machine_s_programs(probe: Path) -> None:
    bound = pc.Mount.bind(probe, "/run/probe", read_only=True)
    seen = read(pc.run(["/run/probe", "path=/usr/bin/env", "path=/etc/passwd"], mounts=[bound]))
    assert seen["paths"]["/usr/bin/env"]["size"] == os.stat("/usr/bin/env", follow_symlinks=False).st_size
    assert seen["paths"]["/etc/passwd"]["content"].splitlines()[0].startswith("root:x:0:0:")
    assert len(seen["paths"]["/etc/passwd"]["content"].splitlines()) == 2, "the host's own accounts show"


@parameter("run.entrypoint")
def test_entrypoint_comes_before_the_args(probe_root: Path) -> None:
    assert read(pc.run(["x"], entrypoint=[PROGRAM, "first"], image=probe_root))["argv"] == [PROGRAM, "first", "x"]
    assert read(pc.run(entrypoint=[PROGRAM], image=probe_root))["argv"] == [PROGRAM]
    assert read(pc.run([PROGRAM], entrypoint=[], image=probe_root))["argv"] == [PROGRAM]


@parameter("run.env")
def test_env_is_the_defaults_and_what_is_said(inside: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    seen = variables(inside(env={"A": "1", b"B": b"\xfe", "HOSTNAME": None, "HOME": "/elsewhere"}))
    path = seen.pop("PATH")
    assert path.split(":")[-2:] == ["/sbin", "/bin"]
    assert seen == {"A": "1", "B": "\xfe", "HOME": "/elsewhere"}


def test_home_comes_from_the_container_s_passwd(inside: Probe) -> None:
    assert variables(inside())["HOME"] == "/root"


@parameter("run.cwd")
def test_cwd_is_where_the_command_starts(inside: Probe) -> None:
    assert inside()["cwd"] == "/"
    assert inside(cwd="/var/tmp")["cwd"] == "/var/tmp"


@parameter("run.user")
@pytest.mark.requires("ids")
def test_user_is_an_id_a_name_or_both_with_a_group(inside: Probe) -> None:
    def who(user: Any) -> tuple[Any, ...]:
        seen = inside(user=user)
        return seen["uid"], seen["gid"], seen["status"]["CapEff"]

    nothing = "0" * 16
    assert who(1000) == ([1000] * 3, [1000] * 3, nothing), "the account's own group, and no capability"
    assert who("worker") == who("1000") == who(1000)
    assert who("worker:extra") == who("1000:2000") == ([1000] * 3, [2000] * 3, nothing)
    assert who(4321) == ([4321] * 3, [0] * 3, nothing), "an unknown id has docker's group, root"
    assert who(None)[:2] == ([0] * 3, [0] * 3)


@parameter("run.groups")
@pytest.mark.requires("ids")
def test_groups_are_the_supplementary_ones(inside: Probe) -> None:
    assert set(inside(user=1000, groups=["2000", 3000])["groups"]) - {1000} == {2000, 3000}
    assert set(inside(groups=["extra"])["groups"]) - {0} == {2000}


@parameter("run.umask")
def test_umask_is_the_command_s(inside: Probe) -> None:
    assert inside()["umask"] == 0o022
    assert inside(umask=0o077)["umask"] == 0o077


@parameter("run.hostname")
def test_hostname_is_in_the_namespace_and_the_environment(inside: Probe) -> None:
    seen = inside(hostname="box-1.example")
    assert (seen["hostname"], variables(seen)["HOSTNAME"]) == ("box-1.example", "box-1.example")
    assert os.uname().nodename != "box-1.example"
    assert inside()["hostname"] == "container"


@parameter("run.timeout")
def test_timeout_ends_the_tree_and_keeps_what_was_printed(inside: Probe) -> None:
    began = time.monotonic()
    with pytest.raises(pc.TimeoutExpired) as caught:
        inside.run("sleep=60", timeout=0.5)
    assert time.monotonic() - began < 30
    assert caught.value.timeout == 0.5
    assert caught.value.stdout.startswith(b'{"argv":["/bin/probe","sleep=60"]')
    assert caught.value.result.reason == pc.Reason.TIMEOUT


def test_a_timeout_of_zero_has_expired_and_starts_nothing(inside: Probe, tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as out, pytest.raises(pc.TimeoutExpired):
        inside.run(timeout=0, stdout=out)
    assert (tmp_path / "out").read_bytes() == b""


@parameter("run.check")
def test_check_raises_for_a_status(probe_root: Path) -> None:
    command = ["/bin/sh", "-c", f"{PROGRAM}; echo why >&2; exit 3"]
    assert pc.run(command, image=probe_root).returncode == 3
    with pytest.raises(pc.CalledProcessError, match="why") as caught:
        pc.run(command, image=probe_root, check=True)
    assert (caught.value.returncode, caught.value.stdout[:8]) == (3, b'{"argv":')
    assert isinstance(caught.value, subprocess.CalledProcessError)


@parameter("run.limits")
def test_limits_reach_the_command(inside: Probe) -> None:
    assert inside(limits=pc.Limits(rlimits={"nofile": (64, 128)}))["rlimits"]["nofile"] == [64, 128]
    assert inside()["rlimits"]["nofile"] != [64, 128]


@parameter("run.pid1")
def test_pid1_makes_the_command_the_first_process(inside: Probe) -> None:
    plain, first = inside(), inside(pid1=True)
    assert (plain["pid"], plain["ppid"]) == (2, 1)
    assert (first["pid"], first["ppid"]) == (1, 0)
    assert first["status"]["CapBnd"] == plain["status"]["CapBnd"]


@parameter("run.tty")
def test_tty_is_a_terminal_of_its_own(inside: Probe) -> None:
    seen = inside("path=/dev/console", tty=True)
    assert seen["streams"] == ["terminal"] * 3
    assert (seen["terminal"], seen["sid"] == seen["pid"]) == (0, True), "it is the controlling terminal"
    assert variables(seen)["TERM"] == "xterm"
    assert seen["paths"]["/dev/console"]["major"] == 136
    assert seen.result.stderr == b""
    assert inside()["streams"] == ["character", "pipe", "pipe"]
    assert inside()["terminal"] == 6, "ENXIO: there is no terminal"


@parameter("run.degrade")
@pytest.mark.requires("userns")
def test_degrade_lets_a_limit_be_held_worse(inside: Probe) -> None:
    """More open files than this process may have itself, with which capability ever."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = pc.Limits(rlimits={"nofile": hard + 1})
    with pytest.raises(pc.NotSupported) as refused:
        inside.run(limits=limits)
    assert "rlimits" in refused.value.requirement
    seen = inside(limits=limits, degrade=["rlimits"])
    row = seen.result.enforced["rlimits"]
    assert row.state == "degraded"
    assert str(hard) in row.why
    assert seen["pid"] == 2
    for names in (("rlimits",), {"rlimits"}, (name for name in ["rlimits"]), {"rlimits": 1}.keys()):
        assert inside(limits=limits, degrade=names).result.enforced["rlimits"].state == "degraded"
