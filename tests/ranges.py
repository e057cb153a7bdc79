"""Files of a plain user's range of ids, which are not his: looked at and removed from a user namespace that has them.

For root, and for a user without a range, who has no such files, everything is done here.
"""

from __future__ import annotations

import functools
import json
import os
import pickle
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def told(place: Path, text: str, argv: list[str], **environ: object) -> Any:
    """What a command prints, as JSON: by the tests' plain user, whose /etc/subuid and /etc/subgid have that text.

    Args:
        place: a directory that this user can read; the text is kept there.
        environ: all of its environment but PATH.
    """
    import house

    (place / "sub").write_text(text)
    (place / "sub").chmod(0o644)
    bind = " && ".join(f"mount --bind {place}/sub /etc/{name}" for name in ("subuid", "subgid"))
    user = ["setpriv", "--reuid", house.USER, "--regid", house.USER, "--init-groups"]
    named = ["env", "-i", "PATH=/usr/bin", *(f"{name}={value}" for name, value in environ.items())]
    world = [
        "unshare",
        "-m",
        "--propagation",
        "private",
        "sh",
        "-c",
        f"{bind} && exec {shlex.join([*user, *named, *argv])}",
    ]
    done = subprocess.run(world, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
