"""The engine's own numbers of system calls, for both architectures, against the kernel's headers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

RUST = Path(__file__).resolve().parents[2] / "rust/src"
# What arch/arm64/include/uapi/asm/unistd.h defines before it includes the generic table.
ARM64 = ["RENAMEAT", "NEW_STAT", "SET_GET_RLIMIT", "SYS_CLONE3", "MEMFD_SECRET"]
HEADERS = {
    "x86_64": "#include <asm/unistd_64.h>\n",
    "aarch64": "".join(f"#define __ARCH_WANT_{name}\n" for name in ARM64)
    + "#define __BITS_PER_LONG 64\n#include <asm-generic/unistd.h>\n",
}
ARCHITECTURES = list(enumerate(HEADERS))
pytestmark = pytest.mark.requires("program:cc")


def preprocessed(source: str, *options: str) -> str:
    command = ["cc", "-E", "-P", *options, "-x", "c", "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout


def of_headers(architecture: str) -> dict[str, int]:
    """Name and number; the generic table defines some by way of another name."""
    names = re.findall(r"^#define __NR_(\w+) ", preprocessed(HEADERS[architecture], "-dM"), re.MULTILINE)
    lines = "".join(f'"{name}" __NR_{name}\n' for name in names)  # in quotes: the name may be a macro too
    resolved = re.findall(r'^"(\w+)" (\d+)$', preprocessed(HEADERS[architecture] + lines), re.MULTILINE)
    return {name: int(number) for name, number in resolved}


def of_engine() -> dict[str, tuple[int, int]]:
    rows = re.findall(r"^    ([A-Z0-9_]+) (\d+) (\d+)$", (RUST / "sys/nr.rs").read_text(), re.MULTILINE)
    return {name.lower(): (int(x86), int(arm)) for name, x86, arm in rows}


def of_filter() -> dict[str, tuple[int | None, int | None]]:
    text = (RUST / "security/seccomp/numbers/table.rs").read_text()
    rows = re.findall(r'^    \("(\w+)", (\d+|NONE), (\d+|NONE)\),$', text, re.MULTILINE)

    def number(text: str) -> int | None:
        return None if text == "NONE" else int(text)

    return {name: (number(x86), number(arm)) for name, x86, arm in rows}


@pytest.mark.parametrize(("index", "architecture"), ARCHITECTURES)
def test_what_the_engine_calls(index: int, architecture: str) -> None:
    headers, own = of_headers(architecture), of_engine()
    assert len(own) >= 70
    pairs = {name: (row[index], headers.get(name)) for name, row in own.items()}
    assert not {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


@pytest.mark.parametrize(("index", "architecture"), ARCHITECTURES)
def test_what_the_filter_knows(index: int, architecture: str) -> None:
    """Both ways, as far as this machine's headers go: they may be older than the table."""
    headers, table = of_headers(architecture), of_filter()
    count = headers.pop("syscalls", 1 << 30)  # the generic table's own length
    headers.pop("arch_specific_syscall", None)
    known = {name: row[index] for name, row in table.items() if row[index] is not None}
    shared = known.keys() & headers.keys()
    assert len(shared) > 300
    assert {name: known[name] for name in shared} == {name: headers[name] for name in shared}
    assert not headers.keys() - known.keys()
    later = {"uretprobe", "uprobe"}  # x86_64: 6.11 and 6.18, in a gap of the numbers
    newest = min(count - 1, max(headers.values()))
    assert not {name for name, number in known.items() if name not in headers and (number or 0) <= newest} - later
