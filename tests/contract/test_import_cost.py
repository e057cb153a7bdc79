"""What `import pycontainer` costs: no thread, no descriptor, no file, no process, no handler, and few modules."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pycontainer

# subprocess is what the package is modelled on and whose classes it extends; it brings signal, selectors, threading.
FORBIDDEN = {
    "asyncio", "concurrent", "ctypes", "dataclasses", "email", "http", "importlib.metadata", "inspect", "json",
    "logging", "multiprocessing", "random", "shutil", "socket", "ssl", "tarfile",
    "tempfile", "typing", "unittest", "urllib", "pycontainer._core", "pycontainer.cli",
}  # fmt: skip
SCRIPT = """
import os, signal, sys
import subprocess  # its modules are its own
before = set(sys.modules)
state = lambda: [sorted(os.listdir("/proc/self/fd")), os.listdir("/proc/self/task"), os.environ.copy(),
                 [str(signal.getsignal(n)) for n in range(1, 32)], os.getcwd(), sorted(os.listdir("."))]
a = state()
import pycontainer
values = set(sys.modules)
for name in pycontainer.__all__:
    getattr(pycontainer, name)
b = state()
new = sorted(set(sys.modules) - before)
import json
print(json.dumps({"same": a == b, "new": new, "later": sorted(set(sys.modules) - values)}))
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(pycontainer.__file__).parents[1])}


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*words], env=environment(), capture_output=True, text=True, check=True, **options)


def test_nothing_is_opened_started_or_changed(tmp_path: Path) -> None:
    found = json.loads(run(sys.executable, "-S", "-c", SCRIPT, cwd=tmp_path).stdout)
    assert found["same"]


def test_only_light_modules_are_loaded(tmp_path: Path) -> None:
    found = json.loads(run(sys.executable, "-S", "-c", SCRIPT, cwd=tmp_path).stdout)
    new = set(found["new"])
    assert "pycontainer._run" in new, "the script looks at something else"
    first = {"pycontainer", "pycontainer._errors", "pycontainer._text"}
    assert {name for name in new - set(found["later"]) if name.startswith("pycontainer")} == first
    assert {name for name in new if name in FORBIDDEN or name.split(".")[0] in FORBIDDEN} == set()
    assert {name.split(".")[0] for name in new} <= {"pycontainer", "site", "_sitebuiltins"} | set(
        sys.stdlib_module_names
    )
    assert len([name for name in new if not name.startswith("pycontainer")]) <= 12, new


def test_neither_subprocess_nor_re_is_loaded_before_a_first_use() -> None:
    script = "import sys; import pycontainer; print(sorted({'subprocess', 're', 'enum'} & set(sys.modules)))"
    used = f"{script}; pycontainer.run; print('subprocess' in sys.modules)"
    assert run(sys.executable, "-S", "-c", used).stdout == "[]\nTrue\n"


def test_the_streams_are_subprocesss_own() -> None:
    ours = (pycontainer.PIPE, pycontainer.STDOUT, pycontainer.DEVNULL)
    assert ours == (subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL)


@pytest.mark.requires("ptrace")
def test_the_kernel_sees_no_clone_no_thread_and_no_written_file(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    calls = "clone,clone3,fork,vfork,execve,socket,socketpair,memfd_create,mount,unshare,openat,open,creat,mkdir,pipe2"
    # Without bytecode files: those are Python's own doing.
    script = "import os, subprocess; os.path.exists('/begin'); import pycontainer; os.path.exists('/end')"
    run(
        "strace",
        "-f",
        "-o",
        str(trace),
        "-e",
        f"trace={calls},newfstatat,stat,statx",
        sys.executable,
        "-B",
        "-c",
        script,
    )
    lines = trace.read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if '"/begin"' in line)
    end = next(number for number, line in enumerate(lines) if '"/end"' in line)
    during = [line for line in lines[begin:end] if not re.search(r" (new)?f?stat[ax]*t?\(", line)]
    reads = re.compile(r" open(at)?\(.*O_RDONLY")
    assert [line for line in during if not reads.search(line)] == []
    assert any("pycontainer" in line for line in during)


EXHAUSTED = """
import os, resource
import pycontainer as pc
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
try:
    pc.run(["true"])
except pc.SetupError as error:
    print(error.errno, error.step)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(pc.Limits(pids=1))
"""


def test_a_first_use_without_a_free_descriptor_is_a_typed_error() -> None:
    assert run(sys.executable, "-c", EXHAUSTED).stdout == "24 import pycontainer._run\nLimits(pids=1)\n"


def test_a_first_use_after_a_change_of_directory() -> None:
    place = os.path.relpath(Path(pycontainer.__file__).parents[1])
    script = (
        f"import os, sys; sys.path.insert(0, {place!r}); import pycontainer as pc; os.chdir('/'); print(pc.Limits())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [sys.executable, "-S", "-c", script]
    done = subprocess.run(words, check=False, env=environment, capture_output=True, text=True)
    assert done.stdout == "Limits()\n", done.stderr
