"""What the sessions of noxfile.py share: the wheel that is built once, the staged copies that each user can read.

Knows nothing of nox: paths, hashes, copies, and the words of command lines; what runs a command is a session.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
JUNIT = DIST / "junit"
USER = "pycontainer-test"
# Who runs the tests at the time when those of root do, which start containers as USER.
OTHER_USER = "pycontainer-test-2"
SOURCES = ("Cargo.toml", "Cargo.lock", "pyproject.toml", "README.md", "LICENSE", "rust", "python", ".cargo")
NOT_STAGED = shutil.ignore_patterns(
    ".git", ".nox", ".venv*", "target", "dist", "__pycache__", ".*_cache", ".hypothesis", "*.so"
)
TEST_PACKAGES = ("pytest>=9.0", "pytest-timeout>=2.4", "hypothesis>=6.150", "rich>=13")
# What the pages' examples use beside pycontainer: clients of the services in them, and who draws.
PAGE_PACKAGES = ("matplotlib>=3.9", "psycopg[binary]>=3.2", "redis>=5")
INTERPRETERS = ("/usr/bin/python3", "/usr/local/bin/python3", *(f"/usr/bin/python3.{n}" for n in range(15, 10, -1)))
SUITABLE = "import sys, sysconfig; sys.exit(sys.version_info < (3, 11))"


def files_under(name: str) -> list[Path]:
    path = ROOT / name
    if path.is_file():
        return [path]
    return sorted(found for found in path.rglob("*") if found.is_file() and found.suffix not in {".pyc", ".so"})


def source_hash(features: str) -> str:
    """Of all that a wheel is made from, its features and the compiler: equal means that the wheel can be used again."""
    digest = hashlib.sha256(features.encode())
    digest.update(subprocess.run(["rustc", "-Vv"], capture_output=True, check=True).stdout)
    for path in [path for name in SOURCES if (ROOT / name).exists() for path in files_under(name)]:
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def wheel_directory(features: str) -> Path:
    return DIST / f"wheel-{source_hash(features)}{'-' + features if features else ''}"


def wheel_in(directory: Path) -> Path | None:
    return next(directory.glob("*.whl"), None)


# ---- who runs the tests ------------------------------------------------------------------------------------------


def as_user(command: list[str], user: str = USER, **environ: str) -> list[str]:
    """`command` as the plain user: his ids and groups, his HOME, no variable of ours but those given."""
    drop = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--inh-caps=-all", "--reset-env"]
    return [*drop, "env", *(f"{name}={value}" for name, value in environ.items()), *command]


def user_exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def python_for_user() -> str | None:
    """An interpreter that the plain user can start (one below /root he cannot)."""
    for candidate in (*INTERPRETERS, os.path.realpath(sys.executable)):
        command = as_user([candidate, "-c", SUITABLE])
        if (
            Path(candidate).exists()
            and subprocess.run(command, check=False, capture_output=True, cwd="/").returncode == 0
        ):
            return candidate
    return None


# ---- staging: outside of the checkout, which may lie where a plain user cannot look ------------------------------


@dataclass(frozen=True)
class Stage:
    """One run's copy of the checkout, its virtual environment and its results; `owner` is a user's name or None."""

    name: str
    owner: str | None = None

    @property
    def path(self) -> Path:
        return stages() / self.name

    @property
    def checkout(self) -> Path:
        return self.path / "checkout"

    @property
    def results(self) -> Path:
        return self.path / "results"

    @property
    def python(self) -> Path:
        return self.path / "venv/bin/python"

    @property
    def stamp(self) -> Path:
        """Names the wheel and packages that are in the virtual environment."""
        return self.path / "installed"

    def refresh(self) -> None:
        """Copy the checkout anew and make the results empty; the virtual environment stays."""
        for old in (self.checkout, self.results):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(ROOT, self.checkout, symlinks=True, ignore=NOT_STAGED)
        self.results.mkdir()
        if self.owner:
            give(self.checkout, self.owner)
            give(self.results, self.owner)


def stages() -> Path:
    """This checkout's directory below /var/tmp, ours: another user could have made one of the same name first."""
    path = Path(f"/var/tmp/pycontainer-stage-{os.geteuid()}-{hashlib.sha256(bytes(ROOT)).hexdigest()[:8]}")
    path.mkdir(mode=0o755, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.geteuid() or path.is_symlink():
        raise PermissionError(f"{path} belongs to uid {status.st_uid}: remove it")
    path.chmod(0o755)
    return path


def give(directory: Path, owner: str) -> None:
    entry = pwd.getpwnam(owner)
    for path in [directory, *directory.rglob("*")]:
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def pytest_command(stage: Stage, *words: str) -> list[str]:
    """The command of one run, for the staged checkout as its working directory."""
    junit = f"--junitxml={stage.results / 'junit.xml'}"
    return [str(stage.python), "-m", "pytest", junit, "-o", f"junit_suite_name={stage.name}", *words]


@contextlib.contextmanager
def scratch_of(driver: str) -> Iterator[None]:
    """Where the tests of a storage driver put their stores: btrfs has a loop device, others what there is."""
    if driver != "btrfs":
        yield
        return
    with tempfile.TemporaryDirectory(prefix="pycontainer-btrfs-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        image, point = Path(directory, "image"), Path(directory, "mounted")
        point.mkdir()
        with image.open("wb") as file:
            file.truncate(8 << 30)
        subprocess.run(["mkfs.btrfs", "-q", "-f", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True)
        point.chmod(0o1777)
        os.environ["PYCONTAINER_TEST_TMP"] = str(point)
        try:
            yield
        finally:
            del os.environ["PYCONTAINER_TEST_TMP"]
            subprocess.run(["umount", "-l", str(point)], check=True)


def collect(stage: Stage, name: str) -> None:
    """Bring the run's JUnit file to the others, also after a failure."""
    found = stage.results / "junit.xml"
    if found.exists():
        JUNIT.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found, JUNIT / f"{name}.xml")


def passed_on() -> dict[str, str]:
    """The variables that change what a test run means."""
    names = ("CI", "PYCONTAINER_STRICT_SKIPS", "PYCONTAINER_TEST_DRIVER", "PYCONTAINER_TEST_TMP")
    return {name: os.environ[name] for name in names if name in os.environ}
