"""The steps that were carried out before, by whatever process: keys of all that a step depends on, and what came of it.

A key is made of contents: digests of the layers below, of inputs, of bases. No name, time or history is part of it, so
an image that says it was made in some way is taken for nothing but its files (CVE-2024-24557).
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import contextmanager

from pycontainer import _stored as stored
from pycontainer._build.draft import Layer
from pycontainer._native import core
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

# Another one where the same key would mean another result.
VERSION = 1
_PAUSE_MAX = 0.05


def key_of(keyword: str, **facts: Any) -> str:
    """Make the key of a step: of JSON's types only."""
    text = json.dumps([VERSION, keyword, facts], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read(key: str) -> tuple[Layer | None, str] | None:
    """Return the layer (None: nothing was changed) and its time, of a step whose result is there; else None."""
    found = core().step_read(stored.store(), key)
    if found is None:
        return None
    try:
        whole = json.loads(found)
        layer, created = whole.get("layer"), whole["created"]
        if layer is None:
            return None, str(created)
        return Layer(layer["digest"], layer["size"], layer["mediaType"], whole["diffId"]), str(created)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def write(key: str, layer: Layer | None, created: str) -> None:
    """Keep what a step came to."""
    whole: dict[str, Any] = {"created": created, "layer": None}
    if layer is not None:
        whole["layer"] = {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
        whole["diffId"] = layer.diff_id
    core().step_write(stored.store(), key, json.dumps(whole).encode())


def keep_image(digest: str, size: int, media_type: str) -> None:
    """Keep an image that has no name as long as steps are kept."""
    manifest = {"mediaType": media_type, "digest": digest, "size": size}
    key = key_of("image", manifest=digest)
    core().step_write(stored.store(), key, json.dumps({"manifest": manifest}).encode())


@contextmanager
def alone(key: str, check: Callable[[], None]) -> Iterator[None]:
    """Carry a step out while no other thread and no other process does; `check` raises where the build is to end."""
    pause = 0.001
    while (held := core().step_lock(stored.store(), key)) is None:
        check()
        time.sleep(pause)
        pause = min(2 * pause, _PAUSE_MAX)
    try:
        yield
    finally:
        held.release()
