"""Files of a plain user's range of ids, which are not his: looked at and removed from a user namespace that has them.

For root, and for a user without a range, who has no such files, everything is done here.
"""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
from pathlib import Path

import layertrees
import requirements


def are_missing() -> bool:
    """Whether all files of an image are a plain user's own."""
    return os.geteuid() != 0 and requirements.missing("ids") is not None


@functools.cache
def inside() -> tuple[str, ...]:
    """What a command begins with that is to be root over them: ids are then what they are in an image."""
    if os.geteuid() == 0 or are_missing():
        return ()
    return ("unshare", "--user", "--map-root-user", "--map-auto", "--")


def remove(*paths: Path | str) -> None:
    """rm -rf."""
    subprocess.run([*inside(), "rm", "-rf", *map(str, paths)], check=True)


def tree(root: Path) -> layertrees.Tree:
    """What layertrees.tree() sees there."""
    if not inside():
        return layertrees.tree(root)
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import layertrees, pathlib, pickle\n"
        f"pickle.dump(layertrees.tree(pathlib.Path({str(root)!r})), sys.stdout.buffer)"
    )
    done = subprocess.run([*inside(), sys.executable, "-c", code], check=True, capture_output=True)
    found: layertrees.Tree = pickle.loads(done.stdout)
    return found
