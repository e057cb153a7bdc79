"""Runs a command on another kernel: Debian's, with cgroup2 alone, emulated by qemu, on this machine's own files.

    vm.py [--disk IMAGE --at DIRECTORY] [--results DIRECTORY] [--timeout SECONDS] [--memory SIZE] [--label WORD]
          -- COMMAND...

virtme-ng boots the running root file system read-only; changes go to overlays in the guest's memory. IMAGE, an ext4
file system (`image()` makes one of a directory), is mounted in the guest at DIRECTORY, since an overlay carries
neither layers nor idmapped mounts. What the command leaves in the results directory is on the host afterwards; its exit
code comes from a file there too: a guest that hung, crashed or was killed has none. Ends only what it started.
"""

from __future__ import annotations

import argparse
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

BOOT = 120  # seconds; about 15 on two idle cores
DISK_LABEL = "pcdisk"
NO_RESULT = 70  # EX_SOFTWARE: the guest said nothing
TIMED_OUT = 124  # as timeout(1)

# Runs as root in the guest. The exit code comes last and by rename: it is there in full, or the guest did not finish.
GUEST = """#!/bin/sh
cd {cwd}
read -r booted _ < /proc/uptime
echo "guest: Linux $(uname -r), up after $booted s"
{mount}
{command}
echo $? > {results}/exit-code.new
sync
mv {results}/exit-code.new {results}/exit-code
sync
"""
MOUNT = """modprobe -q ext4; modprobe -q sd_mod
i=0; until disk=$(blkid -L {label}) || [ $i = 50 ]; do sleep 0.2; i=$((i + 1)); done
mkdir -p {at} && mount -t ext4 "$disk" {at} || exit 1
"""


def kernel() -> Path:
    """The newest Debian kernel of /boot."""
    found = sorted(Path("/boot").glob("vmlinuz-*"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError("no kernel in /boot: tools/install.sh vm")
    return found[-1]


def image(directory: Path, target: Path, spare_mib: int = 1024) -> Path:
    """An ext4 file system that holds `directory`, owners and times too, with room for `spare_mib` more (sparse)."""
    used = int(subprocess.run(["du", "-sm", str(directory)], capture_output=True, check=True).stdout.split()[0])
    target.unlink(missing_ok=True)
    argv = ["mke2fs", "-q", "-t", "ext4", "-m", "0", "-L", DISK_LABEL, "-d", str(directory), str(target)]
    subprocess.run([*argv, f"{used + spare_mib}M"], check=True)
    return target


def write_guest_script(options: argparse.Namespace, results: Path) -> Path:
    at = shlex.quote(str(options.at)) if options.disk else ""
    script = GUEST.format(
        cwd="/",
        mount=MOUNT.format(label=DISK_LABEL, at=at) if options.disk else "",
        command=shlex.join(options.command),
        results=shlex.quote(str(results)),
    )
    path = results / "guest.sh"
    path.write_text(script)
    path.chmod(0o755)
    return path


def vng(options: argparse.Namespace, results: Path) -> list[str]:
    """The command line; the kernel's own is at most 2,048 bytes, so it names a script instead of carrying one."""
    program = options.vng or shutil.which("vng") or str(Path(sys.executable).with_name("vng"))
    argv = [program, "--run", str(options.kernel or kernel()), "--disable-kvm", "--memory", options.memory]
    argv += ["--cpus", str(options.cpus), "--user", "root", f"--rwdir={results}"]
    if options.disk:
        argv += ["--disk", str(options.disk)]
    return [*argv, "--exec", f"sh {write_guest_script(options, results)}"]


def boot(argv: list[str], timeout: float, log: Path, label: str) -> bool:
    """True when the guest ended by itself; otherwise its whole process group, which is ours alone, is killed."""
    # A pipe, always: qemu opens /proc/self/fd/1 anew, and of a file it would overwrite what we have printed.
    guest = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    assert guest.stdout
    with guest.stdout as pipe, log.open("wb") as kept:
        try:
            return copy(pipe.fileno(), kept, time.monotonic() + timeout, label) and guest.wait(10) is not None
        finally:
            end_group(guest)


def copy(pipe: int, kept: BinaryIO, deadline: float, label: str) -> bool:
    """Print and keep what comes; False when the deadline passed before the end. With a label, by whole lines."""
    rest = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([pipe], [], [], left)[0]:
            continue
        if not (data := os.read(pipe, 65536)):
            show(labelled(rest + b"\n", label)[0] if rest else b"")
            return True
        kept.write(data)
        whole, rest = labelled(rest + data, label) if label else (data, b"")
        show(whole)
    return False


def labelled(data: bytes, label: str) -> tuple[bytes, bytes]:
    """Its whole lines with the label before each, and what it has of the next one."""
    *lines, rest = data.split(b"\n")
    return b"".join(b"%s| %s\n" % (label.encode(), line) for line in lines), rest


def show(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def end_group(guest: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the guest's process group and wait until it is empty."""
    for _ in range(100):
        try:
            os.killpg(guest.pid, signal.SIGKILL)
        except ProcessLookupError:
            break
        guest.poll()
        time.sleep(0.05)
    guest.wait()


def verdict(results: Path, ended: bool, timeout: float) -> int:
    code = results / "exit-code"
    if code.exists():
        return int(code.read_text())
    if not ended:
        print(f"vm.py: the guest was killed after {timeout:.0f} s")
        return TIMED_OUT
    print("vm.py: the guest ended without a result")
    return NO_RESULT


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--disk", type=Path, help="an ext4 image labelled " + DISK_LABEL)
    parser.add_argument("--at", type=Path, help="where the guest mounts it")
    parser.add_argument("--results", type=Path, help="a directory that the guest can write to")
    parser.add_argument("--timeout", type=float, default=600, help="seconds after the boot")
    parser.add_argument("--memory", default="2G")
    parser.add_argument("--label", default="", help="stands before each line, where several guests run at once")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--kernel", type=Path)
    parser.add_argument("--vng", help="the program of virtme-ng")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(argv)
    if bool(options.disk) != bool(options.at):
        parser.error("--disk and --at belong together")
    return options


def main(argv: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that `boot` ends the guest
    options = parse(argv)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vm-") as scratch:
        results = (options.results or Path(scratch)).resolve()
        results.mkdir(parents=True, exist_ok=True)
        (results / "exit-code").unlink(missing_ok=True)
        ended = boot(vng(options, results), options.timeout + BOOT, results / "console.log", options.label)
        code = verdict(results, ended, options.timeout + BOOT)
    print(f"vm.py: {time.monotonic() - begun:.1f} s, exit code {code}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
