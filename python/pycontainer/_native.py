"""The one door to the native module: loaded at first use, with the hooks that keep forks of this process harmless."""

from __future__ import annotations

import os
import sys

from pycontainer._errors import NotSupported
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

_loaded: ModuleType | None = None


def core() -> ModuleType:
    """Return `pycontainer._core`, loaded and hooked once.

    Raises:
        NotSupported: this is not Linux, or the extension was not built for this interpreter.
    """
    if _loaded is None:
        return _load()
    return _loaded


def _load() -> ModuleType:
    global _loaded
    if sys.platform != "linux":
        raise NotSupported("Linux", f"containers are made by the Linux kernel, and this is {sys.platform}", "use Linux")
    try:
        import pycontainer._core as _core
    except ImportError as error:
        raise NotSupported(
            "the native module", str(error), "install a wheel for this interpreter: pip install pycontainer-engine"
        ) from error
    _core.set_packaged_keeper(os.path.join(os.path.dirname(__file__), "_bin", "pycontainer-keeper"))
    os.register_at_fork(
        before=_core.fork_before, after_in_parent=_core.fork_after_parent, after_in_child=_core.fork_after_child
    )
    _loaded = _core
    return _core
