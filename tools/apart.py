"""Runs a command in a pid namespace and a mount namespace of its own, and prints its lines with a label before each.

    apart.py LABEL COMMAND...

So two runs of the tests take place at one time: neither's watch for leaks sees the containers of the other. The shell
is the first process there and reaps what nobody else does; with it all that the command left ends. The exit code is the
command's.
"""

from __future__ import annotations

import subprocess
import sys

from vm import labelled, show

NAMESPACES = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--", "sh", "-c", '"$@"; exit $?', "sh")


def main(label: str, command: list[str]) -> int:
    run = subprocess.Popen([*NAMESPACES, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
    assert run.stdout
    rest = b""
    with run.stdout as pipe:
        while data := pipe.read(65536):
            whole, rest = labelled(rest + data, label)
            show(whole)
    show(labelled(rest + b"\n", label)[0] if rest else b"")
    return run.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
