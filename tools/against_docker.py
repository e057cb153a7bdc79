"""Runs tests/probe in `docker run` and in pycontainer's run(), both with their defaults, and prints what differs.

    against_docker.py [--page docs/security.md] [--json FILE]

Same static program, same small root file system (no image is pulled), both without a network. Numbers that are new in
each container (pids, inodes, sizes) are left out. With --page, exit code 1 where its table lacks a row that is printed
here, or has one that is not. Needs root, gcc, docker.io (a daemon of our own is started where none answers) and
pycontainer installed for this interpreter.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from errno import errorcode
from pathlib import Path
from typing import Any

import pycontainer as pc
import rootfs as rootfs_builder

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
import peers  # noqa: E402

PROBE = "/bin/probe"
WORDS = [PROBE, "syscalls"]
IMAGE = "pycontainer-against-docker:latest"
STATUS = ("Cap", "NoNewPrivs", "Seccomp", "Groups", "Speculation")
IDS = range(0x7000_0000, 0x7FFC_0000)  # a container's range of them is in here
ON_DISKS = ("btrfs", "ext4", "xfs")

Rows = dict[tuple[str, str], str]


# ---- a report as rows: (section, name) and one short text --------------------------------------------------------


def rows(report: dict[str, Any], own: dict[str, int], names: dict[str, str]) -> Rows:
    """What can be compared between two containers; `own` are this process's namespaces, `names` those of calls."""
    found: Rows = {}
    for part in (process(report), machine(report), namespaces(report, own), mounts(report), paths(report)):
        found |= {(section, name): value for section, name, value in part}
    for number, answer in report["syscalls"].items():
        kind, _, code = answer.partition(" ")
        found["system call", names.get(number, "no such number")] = errorcode[int(code)] if kind == "errno" else answer
    return found


def process(report: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name in ("uid", "gid", "groups", "pid", "umask", "cwd", "streams", "securebits", "dumpable", "oom_score_adj"):
        yield "process", name, shown(report[name])
    for name in ("uid_map", "gid_map"):
        yield "process", name, " and ".join(without_range(line) for line in report[name])
    yield "process", "session keyring", "its own" if report["keyring"][0] >= 0 else os.strerror(report["keyring"][1])
    yield "process", "mknod of 1:3", said(report["mknod"])
    for line in report["env"]:
        name, _, value = line.partition("=")
        yield "environment", name, without_id(value)
    for name, value in report["status"].items():
        if name.startswith(STATUS):
            yield "status", name, value.strip()
    for number, (name, limits) in enumerate(report["rlimits"].items()):  # in the kernel's order
        pairs = zip(limits, resource.getrlimit(number), strict=True)
        words = ["the host's" if value == own else shown_limit(value) for value, own in pairs]
        yield "rlimit", name, f"soft {words[0]}, hard {words[1]}"


def machine(report: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    yield "machine", "hostname", without_id(report["hostname"])
    yield "machine", "domainname", report["domainname"]
    for name, (value, errno) in report["sysctls"].items():
        if name != "kernel/hostname":
            yield "sysctl", name, " ".join(value.split())
        yield "sysctl, opened to be written,", name, said(errno)
    for name, up in report["interfaces"].items():
        yield "interface", name, "up" if up else "down"
    for name, device in report["devices"].items():
        yield "device", name, f"{device['major']}:{device['minor']} {device['mode']:o} {said(device['open'])}"


def shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def shown_limit(value: int) -> str:
    return "unlimited" if value < 0 else str(value)


def without_id(text: str) -> str:
    return re.sub(r"^[0-9a-f]{12}$", "the container's id", text)


def without_range(line: str) -> str:
    return " ".join("its range" if int(number) in IDS else number for number in line.split())


def said(errno: int) -> str:
    return os.strerror(errno) if errno else "yes"


def namespaces(report: dict[str, Any], own: dict[str, int]) -> Iterator[tuple[str, str, str]]:
    for name, inode in report["namespaces"].items():
        yield "namespace", name, "the host's" if own[name] == inode else "its own"


def mounts(report: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The uppermost mount of each place: the kind of file system and its flags."""
    for line in report["mountinfo"]:
        left, _, right = line.partition(" - ")
        kind, flags = right.split()[0], [word for word in left.split()[5].split(",") if word not in ("rw", "relatime")]
        yield "mount", left.split()[4], " ".join(["a file of the host's" if kind in ON_DISKS else kind, *flags])


def paths(report: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for path, seen in report["paths"].items():
        if "missing" in seen:
            yield "path", path, "not there"
            continue
        yield "owner of", path, f"{seen['uid']}:{seen['gid']}"
        verbs = [f"{verb}: {said(seen[verb])}" for verb in ("read", "write") if verb in seen]
        yield "path", path, ", ".join([f"{seen['kind']} {seen['mode']:o}", *verbs])


def call_names() -> dict[str, str]:
    """Numbers of this architecture's system calls, from the table that the filter is compiled with."""
    text = (ROOT / "rust/src/security/seccomp/numbers/table.rs").read_text()
    column = 1 if os.uname().machine == "x86_64" else 2
    found = re.findall(r'^    \("(\w+)", (\d+|NONE), (\d+|NONE)\),$', text, re.MULTILINE)
    return {row[column]: row[0] for row in found if row[column] != "NONE"}


# ---- the two containers ------------------------------------------------------------------------------------------


def root_with_probe(directory: Path) -> Path:
    root = rootfs_builder.build(directory / "rootfs")
    source = ROOT / "tests/probe/probe.c"
    subprocess.run(["cc", "-O1", "-static", "-o", str(root) + PROBE, str(source)], check=True)
    return root


def of_docker(root: Path, scratch: Path, stack: ExitStack) -> tuple[str, dict[str, Any]]:
    """(its version, the report)"""
    stack.callback(peers.remove_new_groups, peers.groups())  # the daemon leaves the parents of its containers'
    client, _ = peers.docker_host(stack, str(scratch))
    tar = scratch / "rootfs.tar"
    subprocess.run(["tar", "-C", str(root), "-cf", str(tar), "."], check=True)
    subprocess.run([*client, "import", str(tar), IMAGE], check=True, capture_output=True)
    stack.callback(subprocess.run, [*client, "image", "rm", IMAGE], check=False, capture_output=True)
    version = [*client, "version", "--format", "{{.Server.Version}}"]
    asked = subprocess.run(version, check=True, capture_output=True, text=True).stdout.strip()
    argv = [*client, "run", "--rm", "--network", "none", IMAGE, *WORDS]
    return asked, json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)


def of_ours(root: Path) -> dict[str, Any]:
    result = pc.run(WORDS, image=root, check=True)
    weak = [row.name for row in result.enforced.values() if row.state != "held"]
    assert not weak, f"not held here: {weak}"
    report: dict[str, Any] = json.loads(result.stdout)
    return report


# ---- the table ---------------------------------------------------------------------------------------------------


def different(docker: Rows, ours: Rows) -> dict[tuple[str, str], tuple[str, str]]:
    """{(section, names): (docker, ours)}: names of one section that differ in the same way stand together."""
    together: dict[tuple[str, str, str], list[str]] = {}
    for key in dict.fromkeys([*docker, *ours]):
        pair = docker.get(key, "not there"), ours.get(key, "not there")
        if pair[0] != pair[1]:
            together.setdefault((key[0], *pair), []).append(key[1])
    return {(section, ", ".join(names)): (one, other) for (section, one, other), names in together.items()}


def printed(docker: Rows, ours: Rows) -> list[str]:
    found = different(docker, ours)
    return [f"| {section} {names} | {one} | {other} |" for (section, names), (one, other) in found.items()]


def of_page(page: Path) -> list[str]:
    """The first three cells of the page's table, whose fourth says why."""
    table = page.read_text().partition("| what | Docker | pycontainer | why |\n")[2].partition("\n\n")[0]
    cells = (re.split(r"(?<!\\) \| ", line) for line in table.splitlines()[1:])
    return [" | ".join(row[:3]) + " |" for row in cells]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, help="a page with the table, to be compared with what is found")
    parser.add_argument("--json", type=Path, help="where to write both reports")
    options = parser.parse_args()
    own = {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in os.listdir("/proc/self/ns")}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        root = root_with_probe(Path(scratch))
        version, docker = of_docker(root, Path(scratch), stack)
        ours = of_ours(root)
    if options.json:
        options.json.write_text(json.dumps({"docker": docker, "pycontainer": ours}, indent=1))
    names = call_names()
    lines = printed(rows(docker, own, names), rows(ours, own, names))
    print(f"Docker {version}, Linux {os.uname().release}: {len(lines)} differences")
    print("\n".join(lines))
    if not options.page:
        return 0
    difference = list(difflib.unified_diff(of_page(options.page), lines, str(options.page), "found", n=0, lineterm=""))
    print("\n".join(difference) or f"{options.page} says the same")
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main())
