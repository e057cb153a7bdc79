"""Containers of other processes of this user: how one tells of itself, how others are found. Owns nothing."""

from __future__ import annotations

import os
import time
from _thread import RLock
from contextlib import suppress

from pycontainer import _registry
from pycontainer._errors import StateError
from pycontainer._native import core
from pycontainer._process import Text
from pycontainer._spec import Spec
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Self

    from pycontainer._image import Image


class Elsewhere:
    """The part of Container that other processes have to do with."""

    id: str
    name: str
    image: Image
    _native: Any
    _owns = True
    _link = _record = ""
    _created = 0.0

    @classmethod
    def get(cls, id: str) -> Self:
        """Return a handle on a container of any process of this user.

        It does not own the container: leaving its block, close() and its drop end nothing. It can look, measure
        (stats(), monitor(), pressure()), wait, signal, stop, kill, read the log, and run commands. What is the owner's
        alone is StateError: the pipes and the terminal, other limits, pause and resume, the files.

        Args:
            id: its id, its name, or a beginning of its id that no other one's has.

        Raises:
            StateError: there is no such container, or several; or another version of this package has started it.
        """
        if not isinstance(id, str):
            raise TypeError(f"id must be str, not {type(id).__name__}")
        try:
            record = _registry.find(id)
        except LookupError as error:
            raise StateError(str(error)) from None
        made = cls._understood(record)
        if made is None:
            raise StateError(f"another version of this package has started the container {id!r}: ask with that one")
        made._native.attach()
        return made

    @classmethod
    def all(cls) -> list[Self]:
        """Return handles, as of get(), on all containers of this user's processes, the oldest first.

        Those that another version of this package has started are left out.
        """
        found = filter(None, map(cls._understood, _registry.records()))
        return sorted(found, key=lambda container: container._created)

    @classmethod
    def _understood(cls, record: dict[str, Any]) -> Self | None:
        """None of what another version of this package has written: nothing of it is guessed."""
        try:
            return cls._found(record)
        except (ValueError, TypeError, LookupError, AttributeError):
            return None

    @classmethod
    def _found(cls, record: dict[str, Any]) -> Self:
        made: Any = cls.__new__(cls)
        made._owns, made._owner = False, os.getpid()
        mode, encoding, errors = record["text"]
        made._text = Text({"text": mode, "encoding": encoding, "errors": errors})
        made._spec = spec = Spec.__new__(Spec)
        vars(spec).update(_registry.spec_of(record["spec"]))
        spec.said = made.limits = _registry.limits_of(record["limits"])
        made.image = spec.image = _registry.image_of(record["image"])
        made.args, made.id, made.name = list(record["args"]), record["id"], record["name"]
        made.labels = dict(record["labels"])
        # Pipes are the owner's.
        made._kinds = tuple("log" if kind == "log" else "null" for kind in record["kinds"])
        made._closed = made._paused = False
        made._held = None
        made._closing = RLock()
        made._short_log, made._result, made._cut = {}, None, []
        made._files, made._kept = {}, {}
        made._pid, made._created = record["pid"], record["created"]
        made._native = core().find(record["home"], record["number"], spec, record["basis"], record["ports"])
        found: Self = made
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a reference, which get() follows."""
        if self._native is None:
            raise StateError("a container can be pickled once it was started: others find it then")
        return type(self).get, (self.id,)

    if TYPE_CHECKING:

        def poll(self) -> int | None:
            """Of Process."""

    def _claim_name(self) -> None:
        if self.name != self.id[:12]:
            self._link = _registry.claim(self.name, self.id)

    def _tell(self) -> None:
        """It runs, and others may know; again, where what they may know has changed."""
        self._created = self._created or time.time()
        with suppress(StateError):  # it has ended already
            self._record = _registry.enter(self, self._native) or self._record

    def _own_only(self) -> None:
        if not self._owns:
            raise StateError("the container is another process's: its files are for that one")

    def _has_ended(self) -> bool:
        # What it came to may be known to its own process only.
        return self.poll() is not None if self._owns else bool(self._native.poll())

    def _let_go(self) -> None:
        self._native.close()
        if self._native.log() is None:  # it never looked
            self._kinds = ("null", "null", "null")

    def _withdraw(self) -> None:
        _registry.leave(self._record, self._link)
        self._record = self._link = ""
