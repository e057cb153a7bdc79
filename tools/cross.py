"""Compiles the extension and its helper for aarch64 on another machine, and starts the helper under emulation.

    cross.py DIRECTORY        packages and output are kept there; nothing is installed, the machine's apt stays as it is

The compiler and its standard library for both architectures are Debian's (rustc-web, kept at Firefox's level). The
linker is gcc's; without it, or without these packages, the exit code is 77: this machine cannot do it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = "aarch64-unknown-linux-gnu"
LINKER = "aarch64-linux-gnu-gcc"
EMULATOR = "qemu-aarch64-static"
HOST_PACKAGES = ("rustc-web", "libstd-rust-web-dev")
CANNOT = 77  # as automake's tests say it
EINVAL = 22


class Cannot(Exception):
    """This machine lacks something, by its name."""


def run(*argv: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, check=True, text=True, **options)  # type: ignore[call-overload, no-any-return]


class Apt:
    """The machine's sources with a state of our own, in which arm64 is an architecture too."""

    def __init__(self, state: Path) -> None:
        for part in ("lists/partial", "cache/archives/partial"):
            (state / part).mkdir(parents=True, exist_ok=True)
        shutil.copy("/var/lib/dpkg/status", state / "status")
        settings = {"Dir::State::lists": "lists", "Dir::Cache": "cache", "Dir::State::status": "status"}
        self.options = ["-o", "APT::Architectures::=amd64", "-o", "APT::Architectures::=arm64"]
        self.options += ["-o", "APT::Sandbox::User=root", "-q"]
        for name, place in settings.items():
            self.options += ["-o", f"{name}={state / place}"]
        self.cache = state / "cache"

    def update(self) -> None:
        run("apt-get", *self.options, "update", stdout=subprocess.DEVNULL)

    def depends(self, package: str) -> list[str]:
        """What the newest version of it needs, by name."""
        shown = run("apt-cache", *self.options, "show", "--no-all-versions", package, capture_output=True).stdout
        fields = dict(line.split(": ", 1) for line in shown.splitlines() if ": " in line and line[0] != " ")
        return [word.split()[0] for word in fields.get("Depends", "").split(", ")]

    def download(self, packages: list[str]) -> list[Path]:
        run("apt-get", *self.options, "download", *packages, cwd=self.cache, stdout=subprocess.DEVNULL)
        return sorted(self.cache.glob("*.deb"))


def compiler(directory: Path) -> Path:
    """A root directory with a compiler for both architectures in it, fetched once."""
    root = directory / "root"
    if (root / "complete").exists():
        return root
    apt = Apt(directory / "apt")
    try:
        apt.update()
        library = next(name for name in apt.depends(HOST_PACKAGES[1]) if name.startswith("libstd-rust-web-1"))
        llvm = next(name for name in apt.depends(library) if name.startswith("libllvm"))
    except (subprocess.CalledProcessError, StopIteration) as error:
        raise Cannot("Debian's rustc-web is not among the packages that this machine can reach") from error
    for archive in apt.download([*HOST_PACKAGES, library, llvm, f"{HOST_PACKAGES[1]}:arm64"]):
        run("dpkg-deb", "-x", str(archive), str(root))
        archive.unlink()
    (root / "complete").touch()
    return root


def build(directory: Path) -> Path:
    """The helper, built on the way of checking the extension."""
    root = compiler(directory)
    libraries = root / "usr/lib/x86_64-linux-gnu"
    environ = os.environ | {
        "RUSTC": str(root / "usr/bin/rustc"),
        "LD_LIBRARY_PATH": str(libraries),
        "CARGO_TARGET_DIR": str(directory / "target"),
        f"CARGO_TARGET_{TARGET.upper().replace('-', '_')}_LINKER": LINKER,
        "PYO3_NO_PYTHON": "1",
    }
    run("cargo", "check", "--locked", "--target", TARGET, "--all-features", cwd=ROOT, env=environ)
    helpers = (directory / "target" / TARGET).rglob("pycontainer-keeper")
    return max(helpers, key=lambda found: found.stat().st_mtime)


def start(helper: Path) -> None:
    """Without its socket it says EINVAL: entry, system calls and errors are those of the architecture."""
    argv = [EMULATOR, str(helper)] if shutil.which(EMULATOR) else []
    if not argv:
        raise Cannot(f"{EMULATOR} is not installed")
    done = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, timeout=60, close_fds=True)
    print(f"{EMULATOR} {helper.name}: exit code {done.returncode}, expected {EINVAL} (EINVAL: it has no socket)")
    if done.returncode != EINVAL:
        sys.exit(1)


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        sys.exit(__doc__)
    try:
        if not shutil.which(LINKER):
            raise Cannot(f"{LINKER} is not installed")
        helper = build(Path(argv[0]).resolve())
        print(run("file", "-b", str(helper), capture_output=True).stdout, end="")
        start(helper)
    except Cannot as why:
        print(f"cross.py: {why}")
        return CANNOT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
