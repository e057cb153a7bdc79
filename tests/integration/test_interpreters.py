"""Image.host() has the caller's interpreter with its packages: in a venv, under a prefix elsewhere, the user's own.

Each test makes an interpreter with a package of a third party, lets it start a container, and imports there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import worlds

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
# What a Debian interpreter calls the directory of its packages depends on whether it is in a venv: it is asked.
PACKAGES = "import site; print(site.getsitepackages()[0])"
INSIDE = """
import importlib.metadata, json, os, sys, thirdparty, thirdparty.data
try:
    open(thirdparty.__file__, "a")
    changed = "changed"
except OSError as error:
    changed = type(error).__name__
print(json.dumps({
    "answer": thirdparty.data.ANSWER, "file": thirdparty.__file__, "prefix": sys.prefix, "base": sys.base_prefix,
    "version": importlib.metadata.version("thirdparty"), "changed": changed, "home": sorted(os.listdir("/home")),
}))
"""
RUN = """
import sys
import pycontainer as pc
options, code = sys.argv[1:]
done = pc.run(["python3", "-c", code], text=True, **eval(options))
print(done.stderr, file=sys.stderr)
print(done.stdout)
"""


@pytest.fixture
def place(scratch: Path) -> Iterator[Path]:
    """A directory that is in no image: below the scratch directory, which every user may pass through."""
    path = scratch / "interpreters"
    path.mkdir()
    yield path
    shutil.rmtree(path)


def base() -> Path:
    """The interpreter without its venv: some tests are run from one."""
    return Path(getattr(sys, "_base_executable", sys.executable))


def install(packages: Path) -> None:
    """A package with a module and its metadata, as an installer leaves it; nothing is downloaded."""
    (packages / "thirdparty").mkdir(parents=True)
    (packages / "thirdparty/__init__.py").write_text("")
    (packages / "thirdparty/data.py").write_text("ANSWER = 42\n")
    about = packages / "thirdparty-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.2\n")


def packages_of(interpreter: Path) -> Path:
    done = subprocess.run([interpreter, "-c", PACKAGES], check=True, capture_output=True, text=True)
    return Path(done.stdout.strip())


def venv(interpreter: Path, target: Path) -> Path:
    subprocess.run([interpreter, "-m", "venv", "--without-pip", target], check=True)
    return target / "bin/python3"


def prefix_elsewhere(target: Path) -> Path:
    """As pyenv lays one out: TARGET/bin/pythonX.Y and TARGET/lib/pythonX.Y, with nothing below /usr."""
    (target / "bin").mkdir(parents=True)
    program = target / f"bin/python{VERSION}"
    shutil.copy(base().resolve(), program)
    (target / "bin/python3").symlink_to(program.name)
    left_out = shutil.ignore_patterns("test", "tests", "*-packages", "__pycache__", "config-*", "idlelib", "lib2to3")
    shutil.copytree(sysconfig.get_path("stdlib"), target / f"lib/python{VERSION}", symlinks=False, ignore=left_out)
    libraries = Path(sysconfig.get_config_var("LIBDIR") or "/nonexistent")
    for library in libraries.glob(f"libpython{VERSION}*.so*") if sysconfig.get_config_var("Py_ENABLE_SHARED") else ():
        shutil.copy(library, target / "lib")
    return target / "bin/python3"


def started(
    interpreter: Path, options: str = "{}", code: str = INSIDE, world: tuple[str, ...] = (), **environ: str
) -> subprocess.CompletedProcess[str]:
    """That interpreter, which runs `python3 -c CODE` in a container of its own machine."""
    argv = [*world, *worlds.python(RUN, str(interpreter)), options, code]
    environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", **environ}
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=environ, timeout=100)


def seen_by(interpreter: Path, options: str = "{}", **environ: str) -> dict[str, Any]:
    """What INSIDE prints there."""
    done = started(interpreter, options, **environ)
    assert done.stdout.strip(), done.stderr
    return json.loads(done.stdout)


def test_in_a_venv_its_packages_are_there(place: Path) -> None:
    interpreter = venv(base(), place / "venv")
    packages = packages_of(interpreter)
    install(packages)
    seen = seen_by(interpreter)
    assert (seen["answer"], seen["version"]) == (42, "1.2")
    assert seen["file"] == str(packages / "thirdparty/__init__.py")
    assert (seen["prefix"], seen["home"]) == (str(place / "venv"), [])
    assert seen["changed"] in ("OSError", "PermissionError")


def test_a_prefix_elsewhere_as_pyenv_has_it(place: Path) -> None:
    """The interpreter, its standard library and its packages are all below a directory that no image shows."""
    interpreter = prefix_elsewhere(place / f"versions/{VERSION}")
    libraries = {"LD_LIBRARY_PATH": str(place / f"versions/{VERSION}/lib")}
    done = subprocess.run([interpreter, "-c", PACKAGES], check=True, capture_output=True, text=True, env=libraries)
    install(Path(done.stdout.strip()))
    seen = seen_by(interpreter, options=repr({"env": libraries}), **libraries)
    assert (seen["answer"], seen["version"]) == (42, "1.2")
    assert seen["prefix"] == seen["base"] == str(place / f"versions/{VERSION}")


def test_a_venv_of_a_prefix_elsewhere(place: Path) -> None:
    """Two directories: the venv with the packages, and the prefix with the program and the standard library."""
    prefix_elsewhere(place / f"versions/{VERSION}")
    libraries = {"LD_LIBRARY_PATH": str(place / f"versions/{VERSION}/lib")}
    subprocess.run(
        [place / f"versions/{VERSION}/bin/python3", "-m", "venv", "--without-pip", place / "project"],
        check=True, env=libraries,
    )  # fmt: skip
    install(place / f"project/lib/python{VERSION}/site-packages")
    seen = seen_by(place / "project/bin/python3", options=repr({"env": libraries}), **libraries)
    assert seen["answer"] == 42
    assert (seen["prefix"], seen["base"]) == (str(place / "project"), str(place / f"versions/{VERSION}"))


# ---- what `pip install --user` leaves ----------------------------------------------------------------------------

OWN = f".local/lib/python{VERSION}/site-packages"


@pytest.fixture
def home(place: Path) -> Path:
    """A home with a package of the user's own, and something else that is nobody's business."""
    path = place / "home"
    install(path / OWN)
    (path / "secret").write_text("not inside")
    return path


@pytest.mark.requires("user")
def test_a_plain_user_s_own_packages_are_below_the_home_inside(home: Path) -> None:
    """Read-only, and nothing else of his home; what is beside them can be made, as in any home."""
    beside = f"import os; assert not os.path.exists({str(home)!r}); os.mkdir('/root/.local/share'); {INSIDE}"
    done = started(base(), code=beside, HOME=str(home))
    assert done.stdout.strip(), done.stderr
    seen = json.loads(done.stdout)
    assert (seen["answer"], seen["version"]) == (42, "1.2")
    assert seen["file"] == f"/root/{OWN}/thirdparty/__init__.py"
    assert (seen["changed"], seen["home"]) == ("OSError", [])


@pytest.mark.requires("user")
def test_a_venv_does_without_them(home: Path) -> None:
    done = started(venv(base(), home.parent / "venv"), HOME=str(home))
    assert "No module named 'thirdparty'" in done.stderr


@pytest.mark.requires("user")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param("{'mounts': [pc.Mount.tmpfs('/root')]}", "No module named 'thirdparty'", id="mount-above"),
        pytest.param(f"{{'mounts': [pc.Mount.tmpfs('/root/{OWN}')]}}", "No module named 'thirdparty'", id="mount"),
        pytest.param(f"{{'files': {{'/root/{OWN}/thirdparty.py': b'print(7)'}}}}", "'thirdparty.data'", id="file"),
    ],
)
def test_what_is_asked_for_in_that_place_is_there_instead(home: Path, options: str, said: str) -> None:
    assert said in started(base(), options, HOME=str(home)).stderr


@pytest.mark.requires("root")
def test_root_s_own_packages_are_those_of_his_home(home: Path) -> None:
    """Where they lie. Of another's home, as after `sudo -E`, none: with a bind root inside could read all of it."""
    assert "No module named 'thirdparty'" in started(base(), HOME=str(home)).stderr
    (home / OWN / "thirdparty/closed.py").touch(0o600)
    for layer in ("upper", "work"):
        (home.parent / layer).mkdir()
    layers = f"lowerdir=/root,upperdir={home.parent}/upper,workdir={home.parent}/work"
    script = f"mount -t overlay none -o {layers} /root && mkdir -p /root/{OWN} && cp -a {home}/{OWN}/. /root/{OWN}"
    world = ("unshare", "-m", "--propagation", "private", "sh", "-c", f'{script} && exec "$@"', "sh")
    code = f"import os; open('/root/{OWN}/thirdparty/data.py'); print(os.access('/root/{OWN}/thirdparty/closed.py', 4))"
    done = started(base(), code=f"{INSIDE}\n{code}", world=world, HOME="/root")
    seen, readable = done.stdout.split("\n")[:2]
    assert (json.loads(seen)["file"], readable) == (f"/root/{OWN}/thirdparty/__init__.py", "False")
