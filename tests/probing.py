"""Runs tests/probe in a container and reads its report. Knows nothing of what a report should say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pycontainer as pc

EPERM, ENOENT, EACCES, EROFS, ENOSYS = 1, 2, 13, 30, 38
PROGRAM = "/bin/probe"


class Seen(dict[str, Any]):
    """The report by section, and the Result that it came with."""

    result: pc.Result[Any]


def read(result: pc.Result[Any]) -> Seen:
    assert result.returncode == 0, (result, result.stderr)
    seen = Seen(json.loads(result.stdout))
    seen.result = result
    return seen


def capabilities(seen: Seen, name: str = "CapEff") -> int:
    return int(seen["status"][name], 16)


def mount_at(seen: Seen, target: str) -> list[str]:
    """The fields of the uppermost mount on `target` in mountinfo: [5] are its flags, the last three are the fs."""
    rows = [line.split() for line in seen["mountinfo"]]
    return [row for row in rows if row[4] == target][-1]


class Probe:
    """Calls pc.run with the probe as the command; words and parameters are the test's own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, *words: str, **parameters: Any) -> Seen:
        return read(self.run(*words, **parameters))

    def run(self, *words: str, **parameters: Any) -> pc.Result[Any]:
        parameters.setdefault("image", self.root)
        return pc.run([PROGRAM, *words], **parameters)


def root_with_probe(rootfs: Path, probe: Path, target: Path) -> Path:
    shutil.copytree(rootfs, target, symlinks=True)
    shutil.copy(probe, target / PROGRAM.lstrip("/"))
    (target / PROGRAM.lstrip("/")).chmod(0o755)
    return target
