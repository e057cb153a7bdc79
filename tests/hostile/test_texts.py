"""Names and values with newlines, zeros, controls and ways out: refused at once, or passed on verbatim."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from hostile.attacks import shell

BROKEN = ["a\nb", "a\rb", "a\0b", "a\x1b[2Jb", "a b", "a/b", "\n", "a\n", "\u202e", "a\u2028b", "á"]
# Ids and names that would leave a directory if they were joined to a path.
STEPS = ["..", "../x", "../../x", "/x", "x/../y", "x/../../y", "./x", ".", "", "x/", "x//y", "..\\x", "%2e%2e/x",
    "..%2fx", "~", "~/x", "$HOME", "-x",
         "--x", ".x", "x\0", "x\n", "x\\", "x" * 129, "x" * 4096, "\u2024\u2024/x", "..;/x", "CON", "x:y", "x y",
         "*", "?", "[x]", "{x}"]  # fmt: skip
ABSOLUTE = ["a", "../a", "./a", "a/..", "/../a", "/a/../b", "/..", "/a/..", "/a\0b", "", "//../a"]


@pytest.mark.parametrize("name", BROKEN)
def test_cve_2022_4318_host_name(rootfs: Path, name: str) -> None:
    """Also CVE-2026-23953: a newline in a name would be a second line of a file that the engine writes."""
    with pytest.raises(ValueError, match="hostname"):
        shell(rootfs, "true", hostname=name)


@pytest.mark.parametrize("name", [*BROKEN, "x:y:z", "-x"])
def test_cve_2022_4318_user_and_groups(rootfs: Path, name: str) -> None:
    for options in ({"user": name}, {"groups": [name]}, {"user": f"0:{name}"}):
        with pytest.raises((ValueError, pc.SetupError)) as caught:
            shell(rootfs, "true", **options)
        assert "\n" not in str(caught.value).rstrip(), "text of others is escaped in messages"
        assert "\x1b" not in str(caught.value)


def test_cve_2022_4318_environment_is_verbatim(rootfs: Path) -> None:
    """A value may hold newlines: it is one variable, and no file of the container has a line more for it."""
    value = "x\nroot::0:0::/:/bin/sh\nLD_PRELOAD=/evil"
    done = pc.run(["/bin/sh", "-c",
        "tr '\\0' '\\n' </proc/self/environ | grep -c ^; printf %s \"$A\"; cat /etc/passwd /etc/hosts"],
                  image=rootfs, env={"A": value, "HOME": value}, text=True)  # fmt: skip
    assert value in done.stdout
    passwd = rootfs / "etc/passwd"
    own = passwd.read_text() if passwd.exists() else ""
    assert done.stdout.count("root::0:0::") == 1
    assert done.stdout.endswith(own)


@pytest.mark.parametrize(
    "env", [{"A\0": "x"}, {"A": "x\0y"}, {"": "x"}, {"A=B": "x"}, {"A": 1}, {1: "x"}, {"*": "x\0"}]
)
def test_cve_2026_57231_environment_names(rootfs: Path, env: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        shell(rootfs, "true", env=env)


def test_cve_2026_57231_nothing_of_the_hosts_environment(rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that mean "take it from the host" elsewhere: "*" and a name without value mean nothing here."""
    monkeypatch.setenv("AWS_SECRET", "of the host")
    env = {"*": "", "AWS_*": "", "AWS_SECRET_": ""}
    done = pc.run(["/bin/env"], image=rootfs, env=env, text=True, check=True)
    assert "of the host" not in done.stdout
    names = {line.split("=")[0] for line in done.stdout.splitlines()}
    assert names == {"PATH", "HOME", "HOSTNAME", "*", "AWS_*", "AWS_SECRET_"}


@pytest.mark.parametrize(
    "argument", [b"--privileged", b"-v/:/host", b"", b"a\nb", b"\xff\xfe", b"$(id)", b"`id`", b"a" * 100_000]
)
def test_cve_2024_32462_arguments_are_verbatim(rootfs: Path, argument: bytes) -> None:
    """What begins with a dash, is empty, or is no text: it arrives as it is, and is no option of anybody's."""
    done = pc.run(["/bin/sh", "-c", 'printf "%s" "$1"', "--", argument], image=rootfs, check=True)
    assert done.stdout == argument


@pytest.mark.parametrize("args", [["a\0b"], ["/bin/sh", "\0"], [b"\0"]])
def test_cve_2024_32462_a_zero_ends_nothing(rootfs: Path, args: Any) -> None:
    with pytest.raises(ValueError):
        pc.run(args, image=rootfs)


@pytest.mark.parametrize("name", STEPS)
def test_cve_2025_0750_names_that_lead_out(name: str) -> None:
    """Also CVE-2021-41091's class and CVE-2024-9675: the grammar of names has no way out. The control is pathlib, which
    takes one.
    """
    if not name or "\0" in name or any(c in name for c in "/\\ :*?[{~$%\n-.;") or not name.isascii() or len(name) > 128:
        with pytest.raises(ValueError):
            pc.Mount.volume(name, "/x")
    else:
        assert pc.Mount.volume(name, "/x").source == name


def test_control_of_cve_2025_0750_joining_leads_out(scratch: Path) -> None:
    assert not (scratch / "volumes" / "../../x").resolve().is_relative_to(scratch / "volumes")


@pytest.mark.parametrize("target", ABSOLUTE)
def test_cve_2025_0750_targets_that_lead_out(scratch: Path, target: str) -> None:
    for make in (
        lambda: pc.Mount.bind(scratch, target),
        lambda: pc.Mount.tmpfs(target),
        lambda: pc.Mount.overlay(scratch, target),
    ):
        with pytest.raises(ValueError):
            make()
    with pytest.raises(ValueError):
        pc.run(["/bin/true"], files={target: b"x"})


@pytest.mark.parametrize("argument", ["masked_paths", "readonly_paths", "devices"])
@pytest.mark.parametrize("path", [*ABSOLUTE, "/dev/../etc/shadow", "/dev"])
def test_cve_2025_0750_paths_of_security_that_lead_out(argument: str, path: str) -> None:
    if path == "/dev" and argument != "devices":
        return
    with pytest.raises(ValueError):
        pc.Security(**{argument: [path]})


def test_wheel_has_no_set_id_file() -> None:
    """CVE-2022-47952, CVE-2026-39402: no set-user-ID helper is shipped."""
    package = Path(pc.__file__).parent
    assert len(list(package.rglob("*"))) > 5
    assert [path for path in package.rglob("*") if path.lstat().st_mode & 0o6000] == []
    assert os.access(package, os.R_OK)
