"""How the attacks are run: Python in Image.host(), a shell in a root file system, and the same step without an engine
as a control.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pycontainer as pc

RENAMEAT2 = {"x86_64": 316, "aarch64": 276}[os.uname().machine]
EPERM, ENOENT, EACCES, EINVAL, ENOSYS = 1, 2, 13, 22, 38
# What an attack in Python begins with: raw system calls that answer with a negative errno, as the kernel does.
PRELUDE = """
import ctypes, errno, json, os, socket, stat, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    words = [a if isinstance(a, bytes) else ctypes.c_long(a if a < 1 << 63 else a - (1 << 64)) for a in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    return -ctypes.get_errno() if result < 0 else result
kept = []
def room(*what):
    kept.append(ctypes.create_string_buffer(*what))  # lives on: the kernel writes into it
    return ctypes.addressof(kept[-1])
def attempt(body, *arguments, **options):
    try:
        return ["done", str(body(*arguments, **options))[:200]]
    except OSError as error:
        return ["refused", errno.errorcode.get(error.errno, str(error.errno))]
def tell(value):
    print(json.dumps(value), flush=True)
"""


def inside(code: str, *arguments: str, **options: Any) -> Any:
    """Run Python in a container of this machine's programs; what it tells, as JSON."""
    program = PRELUDE + textwrap.dedent(code)
    done = pc.run(["python3", "-c", program, *arguments], text=True, check=True, timeout=60, **options)
    return json.loads(done.stdout.splitlines()[-1])


def outside(code: str, *arguments: str) -> Any:
    """The control: the same program on this machine, without a container, in a child."""
    program = PRELUDE + textwrap.dedent(code)
    argv = ["python3", "-c", program, *arguments]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout.splitlines()[-1])


def shell(root: Path, script: str, **options: Any) -> Any:
    """Run a shell in a directory image."""
    return pc.run(["/bin/sh", "-c", script], image=root, text=True, timeout=60, **options)


def without_engine(script: str, *arguments: str) -> str:
    """The control of a mount attack: a shell with the privileges of a careless engine, in a mount namespace of
    its own.
    """
    argv = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    argv += ["sh", "-ec", script, "sh", *arguments]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def signature(path: Path) -> list[tuple[str, ...]]:
    """Names, kinds, modes, owners, times and contents below a directory."""
    rows = []
    for found in sorted([path, *path.rglob("*")]):
        seen = found.lstat()
        data = hashlib.sha256(found.read_bytes()).hexdigest() if stat.S_ISREG(seen.st_mode) else ""
        facts = (seen.st_mode, seen.st_uid, seen.st_gid, seen.st_nlink, seen.st_mtime_ns, seen.st_ctime_ns)
        rows.append((str(found.relative_to(path)), *map(str, facts), data))
    return rows


def remove(path: Path) -> None:
    if not path.is_symlink() and path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put_link(path: Path, target: str | Path) -> None:
    remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def put_chain(path: Path, target: str | Path) -> None:
    """A link to a link to a link."""
    put_link(path.parent / "link-2", target)
    put_link(path.parent / "link-1", "link-2")
    put_link(path, "link-1")


def put_file(path: Path, target: str | Path) -> None:
    remove(path)
    path.write_text("a file\n")


def put_fifo(path: Path, target: str | Path) -> None:
    remove(path)
    os.mkfifo(path)


def put_socket(path: Path, target: str | Path) -> None:
    remove(path)
    here = os.open(path.parent, os.O_PATH)  # a short name: sun_path has 108 bytes
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def put_device(path: Path, target: str | Path) -> None:
    """/dev/null under this name; a plain user, who may make none, takes a file."""
    remove(path)
    if os.geteuid() == 0:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    else:
        path.write_text("")


Poison = Callable[[Path, "str | Path"], None]


def links_out(canary: Path) -> dict[str, str]:
    """The ways by which a link in an image could lead to a directory of the host."""
    up = "../" * 20
    return {
        "absolute": str(canary),
        "relative": f"{up}{str(canary).lstrip('/')}",
        "old root": f"/oldroot{canary}",
        "root of PID 1": f"/proc/1/root{canary}",
        "own root": f"/proc/self/root/{up}{str(canary).lstrip('/')}",
        "working directory": f"/proc/self/cwd/{up}{str(canary).lstrip('/')}",
        "descriptor": "/proc/self/fd/5",
        "root": "/",
    }
