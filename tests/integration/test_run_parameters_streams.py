"""What run()'s stream parameters do: the probe says what its descriptors are, the caller what came back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import pycontainer as pc
from probing import PROGRAM, Probe, read

parameter = pytest.mark.parameter


@parameter("run.input")
def test_input_is_what_stdin_holds(inside: Probe, probe_root: Path) -> None:
    assert inside(input=b"x")["streams"][0] == "pipe"
    assert inside()["streams"][0] == "character", "/dev/null, where nothing is given"
    data = bytes(range(256)) * 4096  # a megabyte: more than a pipe holds
    assert pc.run(["/bin/cat"], image=probe_root, input=data).stdout == data
    assert pc.run(["/bin/cat"], image=probe_root, input="é\n", text=True).stdout == "é\n"


@parameter("run.stdin")
def test_stdin_is_a_file_of_the_caller_s(inside: Probe, probe_root: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"from a file")
    with open(tmp_path / "in", "rb") as file:
        assert inside(stdin=file)["streams"][0] == "file"
        assert pc.run(["/bin/cat"], image=probe_root, stdin=file).stdout == b"from a file"
        assert inside(stdin=file.fileno())["streams"][0] == "file"
    assert inside(stdin=pc.DEVNULL)["fds"]["0"] == "/dev/null"


@parameter("run.stdout")
def test_stdout_is_a_file_of_the_caller_s(inside: Probe, tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as file:
        result = inside.run(stdout=file)
    assert result.stdout is None
    assert json.loads((tmp_path / "out").read_bytes())["streams"][1] == "file"
    assert inside(stdout=pc.PIPE)["streams"][1] == "pipe"
    assert inside.run(stdout=pc.DEVNULL).stdout is None


@parameter("run.stderr")
def test_stderr_goes_where_stdout_goes_or_to_a_file(inside: Probe, probe_root: Path, tmp_path: Path) -> None:
    seen = inside(stderr=pc.STDOUT)
    assert seen["fds"]["2"] == seen["fds"]["1"]
    assert seen.result.stderr is None
    assert inside()["fds"]["2"] != inside()["fds"]["1"]
    both = pc.run(["/bin/sh", "-c", "echo a; echo b >&2; echo c"], image=probe_root, stderr=pc.STDOUT)
    assert both.stdout == b"a\nb\nc\n"
    with open(tmp_path / "err", "wb") as file:
        assert inside(stderr=file)["streams"][2] == "file"


@parameter("run.capture_output")
def test_capture_output_false_lets_streams_go_where_ours_go(
    inside: Probe, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    result = inside.run(capture_output=False)
    out = capfd.readouterr().out
    assert (result.stdout, result.stderr) == (None, None)
    assert json.loads(out)["streams"][1] == "file", "what pytest captures into"


@pytest.mark.requires("ids")
@pytest.mark.parametrize("user", ["0", "1000:1000"])
def test_pipes_of_ours_belong_to_the_command_s_user(probe_root: Path, user: str) -> None:
    words = "cat /dev/stdin > /dev/stdout; echo err > /dev/stderr; stat -Lc %u:%g /dev/stdin /dev/stdout /dev/stderr"
    result = pc.run(["/bin/sh", "-c", words], image=probe_root, user=user, input=b"through a path\n")
    owner = b"0:0\n" if user == "0" else b"1000:1000\n"
    assert (result.stdout, result.stderr) == (b"through a path\n" + owner * 3, b"err\n")


@parameter("run.text")
def test_text_gives_str_with_universal_newlines(probe_root: Path, inside: Probe) -> None:
    assert inside.run(text=True).stdout.startswith('{"argv"')
    command = ["/bin/printf", r"a\r\nb\rc\377"]
    assert pc.run(command, image=probe_root, text=True).stdout == "a\nb\nc\ufffd"
    assert pc.run(command, image=probe_root).stdout == b"a\r\nb\rc\xff"


@parameter("run.encoding")
def test_encoding_is_the_streams_(probe_root: Path) -> None:
    result = pc.run(["/bin/sh", "-c", f"{PROGRAM}; cat >&2"], image=probe_root, input="é", encoding="latin-1")
    assert json.loads(result.stdout)["streams"] == ["pipe"] * 3
    assert result.stderr == "é"
    printed = pc.run(["/bin/printf", r"\351"], image=probe_root, encoding="latin-1").stdout
    assert printed == "é"


@parameter("run.errors")
def test_errors_says_what_becomes_of_other_bytes(probe_root: Path, inside: Probe) -> None:
    command = ["/bin/printf", r"\377"]
    assert pc.run(command, image=probe_root, errors="surrogateescape").stdout == "\udcff"
    assert pc.run(command, image=probe_root, errors="ignore").stdout == ""
    with pytest.raises(UnicodeDecodeError):
        pc.run(command, image=probe_root, errors="strict")
    assert isinstance(inside.run(errors="strict").stdout, str)


@parameter("run.pass_fds")
def test_pass_fds_keep_their_numbers_and_nothing_else_gets_in(inside: Probe, tmp_path: Path) -> None:
    (tmp_path / "passed").write_text("x")
    with open(tmp_path / "passed", "rb") as file, open(tmp_path / "kept", "wb") as kept:
        os.set_inheritable(kept.fileno(), True)
        number = os.dup2(file.fileno(), 77)
        try:
            seen = inside(pass_fds=[number])
        finally:
            os.close(number)
    assert set(seen["fds"]) == {"0", "1", "2", "77"}
    assert seen["fds"]["77"].endswith("/passed")
    assert set(inside()["fds"]) == {"0", "1", "2"}


def test_a_passed_descriptor_can_sit_where_another_one_of_ours_is(probe_root: Path) -> None:
    """Numbers that the set-up itself uses: each of them must arrive as what it is."""
    pipes = [os.pipe() for _ in range(8)]
    try:
        wanted = sorted(fd for pipe in pipes for fd in pipe)
        seen = read(pc.run([PROGRAM], image=probe_root, pass_fds=wanted))
        assert {fd: seen["fds"][str(fd)] for fd in wanted} == {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in wanted}
    finally:
        for pipe in pipes:
            os.close(pipe[0])
            os.close(pipe[1])
