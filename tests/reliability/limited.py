"""For programs under test: run()'s words for limits. Imports next to nothing, since each of them starts with it."""

from __future__ import annotations

import os


def limited(**limits: object) -> dict[str, object]:
    """A plain user has no groups of version 1 to hold them: there they are degraded, and all else is the same."""
    import pycontainer as pc

    held = os.geteuid() == 0 or os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    return {"limits": pc.Limits(**limits), "degrade": () if held else tuple(limits)}  # type: ignore[arg-type]
