"""A machine with something taken away: child processes behind a seccomp filter, in changed namespaces, as another user.

Everything is made inside the child, before Python looks at pycontainer, and is gone with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent.parent / "python"
X86 = platform.machine() == "x86_64"
NUMBERS = {
    "capset": 126 if X86 else 91, "ioctl": 16 if X86 else 29, "landlock_create_ruleset": 444, "clone3": 435,
    "openat2": 437, "pivot_root": 155 if X86 else 41, "prctl": 157 if X86 else 167, "prlimit64": 302 if X86 else 261,
    "seccomp": 317 if X86 else 277, "setns": 308 if X86 else 268, "unshare": 272 if X86 else 97,
    "fsopen": 430, "memfd_create": 319 if X86 else 279, "mkdirat": 258 if X86 else 34,
    "execveat": 322 if X86 else 281, "open_tree": 428,
    "move_mount": 429, "fsconfig": 431, "fsmount": 432, "pidfd_open": 434, "close_range": 436, "mount_setattr": 442,
}  # fmt: skip
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
NR_SET_NO_NEW_PRIVS, NR_SET_SECCOMP, MODE_FILTER = 38, 22, 2


def install(call: str, errno: int, argument: tuple[int, int] | None = None) -> None:
    """Refuse a system call with an errno, here and in what is started; `argument`: only where (index, word) is so."""
    code = [(0x20, 0, 0, 0), (0x15, 0, 3 if argument else 1, NUMBERS[call])]
    if argument:
        index, value = argument
        code += [(0x20, 0, 0, 16 + 8 * index), (0x15, 0, 1, value)]
    code += [(0x06, 0, 0, ERRNO | errno), (0x06, 0, 0, ALLOW)]
    program = b"".join(struct.pack("=HBBI", *line) for line in code)
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("@HxxxxxxP", len(code), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid():
        libc.prctl(NR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(NR_SET_SECCOMP, MODE_FILTER, header, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


PlainUser = Callable[[str], list[str]]
DOCTOR = "import json, pycontainer; print(json.dumps(pycontainer.doctor().to_dict()))"


def package_path() -> str:
    """Where the package under test lies: installed, or in this checkout."""
    import pycontainer

    return str(Path(pycontainer.__file__).parent.parent)


def python(code: str, interpreter: str = sys.executable, path: str | None = None) -> list[str]:
    """An interpreter that runs `code` with the package and these helpers at hand."""
    where = [path or package_path(), str(Path(__file__).parent) if path is None else path]
    return [interpreter, "-c", f"import sys; sys.path[:0] = {where!r}\n{code}"]


def readable_copy(place: Path) -> Path:
    """The package under test, copied to where every user of this machine can read it."""
    shutil.copytree(Path(package_path()) / "pycontainer", place / "pycontainer", ignore=shutil.ignore_patterns("__py*"))
    subprocess.run(["chmod", "-R", "a+rX", str(place)], check=True)
    return place


def command(*words: str) -> list[str]:
    """The command line of the package under test."""
    code = f"import sys; sys.path.insert(0, {package_path()!r}); from pycontainer.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code, *words]


Report = dict[str, dict[str, str]]
# What doctor() said in each world of the test that runs now: a mark that claims a change is compared with it.
SEEN: list[Report] = []


def seen(report: Report) -> Report:
    SEEN.append(report)
    return report


def report(argv: list[str], **options: Any) -> Report:
    """What doctor() says in that world."""
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=100, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    return seen(json.loads(done.stdout.splitlines()[-1]))


def filtered(call: str, errno: int, argument: tuple[int, int] | None = None) -> dict[str, dict[str, str]]:
    """doctor() behind an outer seccomp filter."""
    return report(python(f"import worlds; worlds.install({call!r}, {errno}, {argument!r})\n{DOCTOR}"))


def private(script: str, argv: list[str] | None = None) -> dict[str, dict[str, str]]:
    """doctor() in a mount namespace of its own (root only), after a shell script changed it."""
    command = shlex.join(argv or python(DOCTOR))
    return report(["unshare", "-m", "--propagation", "private", "sh", "-c", f"set -e; {script}\nexec {command}"])


# A user namespace with every id of this machine, so that root in it is as able as outside, but for its own sysctls.
FULL_USER_NAMESPACE = """
import ctypes, os
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x20000
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    if ctypes.CDLL(None).unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0:
        os._exit(9)
    os.write(ready[1], b"1")
    os.read(go[0], 1)
else:
    os.close(ready[1])
    os.read(ready[0], 1)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{child}/{name}", "w") as file:
            file.write("0 0 4294967295")
    os.write(go[1], b"1")
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def without(kind: str) -> dict[str, dict[str, str]]:
    """doctor() where there may be no more namespaces of a kind (root only)."""
    setting = f"open('/proc/sys/user/max_{kind}_namespaces', 'w').write('0')"
    return report(python(f"{FULL_USER_NAMESPACE}\n{setting}\n{DOCTOR}"))
