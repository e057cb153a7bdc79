"""Makes the small root file system that tests and benchmarks run in: Debian's static busybox. Needs no privileges."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

APPLETS = (
    "ash awk base64 basename cat chgrp chmod chown cmp cp cut date dd df diff dirname du echo env expr false"
    " find free getopt grep groups gunzip gzip head hostname id ifconfig ip kill killall ln ls md5sum mkdir"
    " mkfifo mknod mktemp mount mv nc nproc od paste pidof ping printf ps pwd readlink"
    " realpath renice rm rmdir route sed seq setsid sh sha256sum sleep sort stat stty sync sysctl tail tar tee"
    " test time timeout top touch tr true tty umount uname uniq unlink unshare usleep vi wc which whoami xargs yes"
).split()
EMPTY = ("dev", "proc", "sys", "tmp", "etc", "root", "home", "run", "var", "var/tmp", "mnt", "usr", "sbin")


def busybox() -> Path:
    found = shutil.which("busybox", path="/bin:/usr/bin")
    if not found:
        raise FileNotFoundError("busybox: install busybox-static (tools/install.sh tests)")
    program = Path(found)
    if b"ld-linux" in program.read_bytes()[:4096]:
        raise FileNotFoundError(f"{found} is not static: install busybox-static instead of busybox")
    return program


def build(directory: Path) -> Path:
    """Fill `directory` (made if missing, readable for everyone) and return it."""
    (directory / "bin").mkdir(parents=True, exist_ok=True)
    for name in EMPTY:
        (directory / name).mkdir(exist_ok=True)
    shutil.copy(busybox(), directory / "bin/busybox")
    for name in APPLETS:
        link = directory / "bin" / name
        if not link.is_symlink():
            link.symlink_to("busybox")
    (directory / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1000::/home:/bin/sh\n")
    (directory / "etc/group").write_text("root:x:0:\nworker:x:1000:\nextra:x:2000:worker\n")
    open_to_all(directory)
    return directory


def open_to_all(directory: Path) -> None:
    """Modes that do not depend on the umask: a plain user must be able to read what root made."""
    for path in [directory, *directory.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    for name in ("tmp", "var/tmp"):
        (directory / name).chmod(0o1777)


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
