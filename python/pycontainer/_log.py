"""What `logging.getLogger("pycontainer")` is told, after a call and by its thread. Imports no logging: who listens has.

Nothing is printed: the logger gets a handler that does nothing, so that logging's handler of last resort, which writes
warnings to stderr where nobody has set logging up, does not come in.
"""

from __future__ import annotations

import sys

from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from logging import Logger
    from types import ModuleType

    from pycontainer._result import Guarantee


def logger() -> Logger | None:
    """The package's logger; None where logging is not imported, or another thread is about to."""
    logging = sys.modules.get("logging")
    if logging is None or not hasattr(logging, "NullHandler"):
        return None
    found: Logger = logging.getLogger("pycontainer")
    if not found.handlers:
        found.addHandler(logging.NullHandler())
    return found


def of_engine(native: ModuleType) -> None:
    """What the engine did without being asked: warn of a keeper that died, tell of what was swept. Each thing once."""
    if (log := logger()) is None or (notices := native.take_notices()) is None:
        return
    keeper, died, groups, layers = notices
    if died is not None:
        log.warning("the keeper (pid %d) died, and its containers with it; pid %d stands in for it", died, keeper)
    if groups or layers:
        log.debug("swept what dead keepers had left: control groups: %d, writable layers: %d", groups, layers)


def of_left_out(native: ModuleType, digest: str, layers: list[str]) -> None:
    """Which devices of an image a plain user does not have."""
    if (log := logger()) is None or not log.isEnabledFor(20):  # logging.INFO
        return
    if names := native.layers_left_out(layers):
        shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        log.info("%s: devices that only root may make are left out: %s", digest, shown)


def of_degraded(enforced: Mapping[str, Guarantee], names: Iterable[str]) -> None:
    """Which of the limits that `degrade` names are held worse than asked, or not at all."""
    if (log := logger()) is None or not log.isEnabledFor(10):  # logging.DEBUG
        return
    for name in names:
        row = enforced.get(name)
        if row is not None and row.state != "held":
            log.debug("%s is %s: %s; degrade= allows it", name, row.state, row.why)
