"""What nox's sessions share: options, the wheel, users, staged copies, and a run in one whose results are kept."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

import nox

import house

IS_ROOT = os.geteuid() == 0
QUICK_BY_ENVIRONMENT = os.environ.get("PYCONTAINER_QUICK") == "1"
MATURIN = "maturin>=1.16,<2"


def options_of(session: nox.Session) -> tuple[bool, list[str]]:
    """Is it the quick form, and the other words after `--`."""
    words = [word for word in session.posargs if word != "--quick"]
    return QUICK_BY_ENVIRONMENT or words != list(session.posargs), words


def system_packages(session: nox.Session, *groups: str) -> None:
    """As root install what is missing; as a plain user the session goes on, and tests that lack something skip."""
    session.run("sh", str(house.ROOT / "tools/install.sh"), *groups, external=True, success_codes=[0, 3], silent=False)


def wheel(session: nox.Session, features: str = "") -> Path:
    """The wheel for the sources as they are; built where dist/ has none."""
    # `maturin develop` leaves the keeper among the sources, and `maturin build` then refuses to add it a second time.
    shutil.rmtree(house.ROOT / "python/pycontainer/_bin", ignore_errors=True)
    directory = house.wheel_directory(features)
    if found := house.wheel_in(directory):
        return found
    session.install(MATURIN)
    extra = ["--profile", "tested", "--features", features] if features else ["--release"]
    out = ["--out", str(directory)]
    session.run("maturin", "build", "--compatibility", "linux", *out, *extra, silent=False)
    found = house.wheel_in(directory)
    assert found, f"maturin left no wheel in {directory}"
    return found


def staged(
    session: nox.Session, stage: house.Stage, python: str, built: Path, more: tuple[str, ...] = ()
) -> house.Stage:
    """A fresh copy of the checkout, and a virtual environment with the wheel and pytest that its user can read."""
    packages = (*house.TEST_PACKAGES, *more)
    os.umask(0o022)
    stage.path.mkdir(exist_ok=True)
    stage.refresh()
    content = "\n".join([python, str(built), *packages])
    if stage.stamp.exists() and stage.stamp.read_text() == content and stage.python.exists():
        return stage
    shutil.rmtree(stage.path / "venv", ignore_errors=True)
    # nox depends on virtualenv, which needs neither venv nor ensurepip of the interpreter.
    session.run(sys.executable, "-m", "virtualenv", "-q", "-p", python, str(stage.path / "venv"), external=True)
    session.run(
        str(stage.python), "-m", "pip", "install", "-q", "--disable-pip-version-check", str(built),
        *packages, external=True,
    )  # fmt: skip
    stage.stamp.write_text(content)
    return stage


def create_user(session: nox.Session, user: str = house.USER) -> str:
    """A plain user of the tests (kept afterwards), and an interpreter that he can start."""
    if not house.user_exists(user):
        session.run("useradd", "--create-home", "--shell", "/bin/sh", user, external=True)
    python = house.python_for_user()
    if python is None:
        session.error(f"no Python 3.11 or later that {user} can start: apt-get install python3")
    return python


def cargo_environment() -> dict[str, str]:
    """Test programs of an extension module are linked with libpython, which need not be where the loader looks."""
    interpreter = getattr(sys, "_base_executable", sys.executable)
    places = [sysconfig.get_config_var("LIBDIR") or "", os.environ.get("LD_LIBRARY_PATH", "")]
    return {"PYO3_PYTHON": interpreter, "LD_LIBRARY_PATH": ":".join(filter(None, places))}


def run_apart(session: nox.Session, who: str, stage: house.Stage, command: list[str]) -> list[str]:
    """As run_staged, in namespaces of its own and from anywhere: what nox is in is for all threads."""
    command = ["env", f"--chdir={stage.checkout}", *command]
    return run_and_collect(session, stage, f"tests-{who}", [sys.executable, "tools/apart.py", who, *command])


def run_staged(session: nox.Session, stage: house.Stage, name: str, command: list[str]) -> list[str]:
    """Run it in the staged checkout; [] or [name], so that the next user's run is not lost with this one's."""
    with session.chdir(stage.checkout):
        return run_and_collect(session, stage, name, command)


def run_and_collect(session: nox.Session, stage: house.Stage, name: str, command: list[str]) -> list[str]:
    try:
        session.run(*command, external=True)
    except nox.command.CommandFailed:
        return [name]
    finally:
        house.collect(stage, name)
    return []
