"""The command line's words, without a container: where options end, sizes, and what becomes of each flag."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

import pycontainer as pc
from pycontainer import _cli_values, _cli_words, cli


def options(*words: str) -> dict[str, object]:
    return _cli_values.run_options(cli.parse(["run", *words, "host", "true"]))


def refused(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.parse(["run", *words])
    return int(end.value.code or 0)


# ---- where options end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "image", "command"),
    [
        (["host"], "host", []),
        (["host", "ls", "-l"], "host", ["ls", "-l"]),
        (["host", "--", "ls", "-l"], "host", ["ls", "-l"]),
        (["--", "host", "ls"], "host", ["ls"]),
        (["host", "ls", "--", "x"], "host", ["ls", "--", "x"]),
        (["host", "--", "--", "x"], "host", ["--", "x"]),
        (["-it", "host", "sh", "-c", "exit 3"], "host", ["sh", "-c", "exit 3"]),
        (["-m64m", "host", "-m", "1"], "host", ["-m", "1"]),
        (["-itm", "64m", "./dir", "true"], "./dir", ["true"]),
        (["--memory=64m", "-e", "A=-b", "host", "x"], "host", ["x"]),
        (["--pids-limit", "-1", "host", "--memory", "x"], "host", ["--memory", "x"]),
        (["-w", "host", "host", "-w"], "host", ["-w"]),
        (["-h", "name", "host", "--help"], "host", ["--help"]),
    ],
)
def test_options_end_at_image(words: list[str], image: str, command: list[str]) -> None:
    arguments = cli.parse(["run", *words])
    assert (arguments.image, arguments.command) == (image, command)


@given(st.lists(st.text(min_size=1).filter(lambda word: "\0" not in word), max_size=6))
def test_a_command_s_words_are_never_touched(command: list[str]) -> None:
    assert cli.parse(["run", "--stats", "-e", "A=1", "host", "--", *command]).command == command
    assert cli.parse(["run", "host", "x", *command]).command == ["x", *command]


@pytest.mark.parametrize(
    "words",
    [
        ["--memory"], ["--bogus", "host"], ["-Z", "host"], ["--mem", "64m", "host"], ["-m", "lots", "host"],
        ["--cpus", "x", "host"], ["-v", "/src", "host"], ["-v", "/a:/b:zz", "host"], ["-v", "/a:b", "host"],
        ["-v", "/a:/b:ro,owner=7", "host"],
        ["--tmpfs", "/t:bad=1", "host"], ["--ulimit", "nofile", "host"], ["-p", "x:1", "host"],
        ["-p", "1.2.3.4:1:2", "host"], ["-p", "1:2/sctp", "host"], ["-p", "1:/udp", "host"],
        ["--pid", "other", "host"], ["--format", "xml", "host"], ["-m", "-1", "host"],
    ],
)  # fmt: skip
def test_a_usage_error_is_docker_s_125(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(*words) == 125
    assert capsys.readouterr().err


def test_without_an_image_it_is_1() -> None:
    assert refused() == refused("-it") == 1


def test_help_is_not_the_host_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused("--help") == 0
    assert "--memory-swap" in capsys.readouterr().out
    assert options("-h", "box")["hostname"] == "box"


def test_a_port_is_published_once() -> None:
    assert _cli_words.ports([(80, 1), ("80/udp", 2)]) == {80: 1, "80/udp": 2}
    assert _cli_words.ports([]) is None
    with pytest.raises(ValueError, match="twice"):
        _cli_words.ports([(80, 1), (80, 2)])


# ---- values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1), ("64b", 64), ("1k", 1024), ("64m", 64 << 20), ("64M", 64 << 20), ("64mb", 64 << 20),
        ("64MB", 64 << 20), ("64MiB", 64 << 20), ("1.5g", 3 << 29), ("2t", 2 << 40), (" 1 g ", 1 << 30),
    ],
)  # fmt: skip
def test_sizes_are_1024_based(text: str, size: int) -> None:
    assert _cli_words.size(text) == size


def limits(*words: str) -> pc.Limits:
    made = options(*words)["limits"]
    assert isinstance(made, pc.Limits)
    return made


def test_limits() -> None:
    words = ["-m", "64m", "--cpus", "1.5", "--pids-limit", "10", "--timeout", "2.5", "--cpuset-cpus", "0"]
    assert limits(*words) == pc.Limits(memory=64 << 20, cpus=1.5, pids=10, wall_time=2.5, cpuset="0")
    assert limits() == pc.Limits()
    assert limits("--pids-limit", "-1") == pc.Limits(pids="max")
    assert limits("--ulimit", "nofile=10:20", "--ulimit", "core=0") == pc.Limits(
        rlimits={"nofile": (10, 20), "core": 0}
    )
    assert limits("--ulimit", "stack=-1") == pc.Limits(rlimits={"stack": "max"})
    assert limits("--oom-score-adj", "-5") == pc.Limits(oom_score_adj=-5)
    assert limits("--memory-reservation", "1m") == pc.Limits(memory_high=1 << 20)


@pytest.mark.parametrize(("said", "swap"), [("100m", 36 << 20), ("64m", 0), ("-1", "max"), ("0", None)])
def test_memory_swap_is_the_sum(said: str, swap: int | str | None) -> None:
    assert limits("-m", "64m", "--memory-swap", said) == pc.Limits(memory=64 << 20, swap=swap)


@pytest.mark.parametrize("words", [["--memory-swap", "64m"], ["-m", "64m", "--memory-swap", "63m"]])
def test_memory_swap_needs_memory_and_is_not_less(words: list[str]) -> None:
    with pytest.raises(ValueError, match="memory and swap together"):
        limits(*words)


def test_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    words = [
        "-v",
        "/a:/b",
        "-v",
        "./c:/d:ro",
        "-v",
        "~/e:/f:rw,owner=7",
        "-v",
        "vol:/v",
        "--tmpfs",
        "/t:size=1m,mode=700",
    ]
    assert options(*words)["mounts"] == [
        pc.Mount.bind("/a", "/b"),
        pc.Mount.bind(Path.cwd() / "c", "/d", read_only=True),
        pc.Mount.bind("/home/me/e", "/f", owner=7),
        pc.Mount.volume("vol", "/v"),
        pc.Mount.tmpfs("/t", size=1 << 20, mode=0o700),
    ]


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "1")
    monkeypatch.delenv("NOT_HERE", raising=False)
    file = tmp_path / "env"
    file.write_text("# remark\n\nA=1=2\n  B= x\nFROM_HERE\n")
    words = ["--env-file", str(file), "-e", "B=y", "-e", "NOT_HERE", "-e", "C="]
    assert options(*words)["env"] == {"A": "1=2", "B": "y", "FROM_HERE": "1", "C": ""}


def test_capabilities_have_docker_s_meaning() -> None:
    default = pc.DEFAULT_CAPABILITIES
    assert _cli_values.capabilities([], []) == default
    assert _cli_values.capabilities(["CAP_SYS_PTRACE"], ["chown"]) == default - {"CHOWN"} | {"SYS_PTRACE"}
    assert _cli_values.capabilities(["chown"], ["ALL"]) == {"CHOWN"}
    assert _cli_values.capabilities(["chown"], ["chown"]) == default
    with pytest.raises(ValueError, match="name the capabilities"):
        _cli_values.capabilities(["ALL"], [])


def test_security_options(tmp_path: Path) -> None:
    plain = pc.Security()
    assert options()["security"] == plain
    assert options("--security-opt", "seccomp=unconfined")["security"] == pc.Security(seccomp="unconfined")
    for word in ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"):
        assert options("--security-opt", word)["security"] == plain
    assert options("--security-opt", "no-new-privileges=false")["security"] == pc.Security(no_new_privileges=False)
    profile = tmp_path / "profile.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    assert options("--security-opt", f"seccomp={profile}")["security"] == pc.Security(seccomp=pc.Seccomp(profile))
    assert options("--userns", "host")["security"] == pc.Security(user_namespace="host")
    with pytest.raises(ValueError, match="--security-opt"):
        options("--security-opt", "apparmor=unconfined")


def test_the_other_flags() -> None:
    made = options(
        "-u", "1:2", "-w", "/tmp", "--network", "host", "--read-only", "--entrypoint", "sh", "--group-add", "5",
        "--group-add", "audio", "--pid", "host", "--cgroupns", "host", "-p", "8080:80", "-p", "53", "-p", "54:53/udp",
        "-p", "22:22/tcp", "--rm", "--init", "-t",
    )  # fmt: skip
    wanted = {
        "user": "1:2", "cwd": "/tmp", "network": "host", "read_only": True, "entrypoint": ["sh"],
        "groups": [5, "audio"], "namespaces": {"pid": "host", "cgroup": "host"},
        "ports": {80: 8080, 53: 0, "53/udp": 54, 22: 22}, "tty": True, "stdin": None,
        "capture_output": False, "text": None,
    }  # fmt: skip
    assert {name: made[name] for name in wanted} == wanted
    assert options("--entrypoint", "")["entrypoint"] == []
    assert options("-i")["stdin"] is pc.INHERIT
    json = options("--format", "json")
    assert (json["capture_output"], json["text"]) == (True, True)


def test_every_option_is_passed_on_or_accepted_by_name() -> None:
    """A flag that run_options forgets would be ignored without a word."""
    import inspect

    source = inspect.getsource(cli) + inspect.getsource(_cli_values)
    flags = {action.dest for action in cli._run_parser(cli._Parser(add_help=False))._actions} - {"help"}
    accepted = {"rm", "init"} | {name for name in cli.NAMESPACE_OPTIONS}
    assert {flag for flag in flags - accepted if f"arguments.{flag}" not in source} == set()
