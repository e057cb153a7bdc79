"""What a container has printed and is kept: read again and again, also when it is closed."""

from __future__ import annotations

from types import MappingProxyType

from pycontainer._errors import StateError
from pycontainer._lines import OUTPUTS, Lines
from pycontainer._process import Process
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal

# Bytes: more than a log holds.
_WHOLE = 1 << 62
# Bytes of a log that are kept by a closed container itself.
_SHORT = 1 << 16


class Logged(Process):
    """A Process whose outputs are logged unless something else was asked for."""

    _short_log: dict[str, bytes]

    if TYPE_CHECKING:

        def _open(self) -> None: ...

    def _log(self) -> Any:
        return self._native.log()

    def logs(self, stream: Literal["stdout", "stderr"] | None = None) -> Any:
        """Return all that is kept of a logged stream, or of both, one after the other. Also after close().

        Raises:
            ValueError: there is no such stream.
            StateError: it is not logged.
        """
        if stream not in (None, *OUTPUTS):
            raise ValueError(f"stream must be 'stdout' or 'stderr', not {stream!r}")
        self._begun()
        names = self._logged() if stream is None else (stream,)
        if not names or any(name not in self._logged() for name in names):
            raise StateError(f"{stream or 'the output'} is not logged: it was asked for elsewhere")
        return self._text.decode(b"".join(self._read_log(name) for name in names))

    def _logged(self) -> tuple[str, ...]:
        return tuple(name for name, kind in zip(OUTPUTS, self._kinds[1:], strict=True) if kind == "log")

    def _read_log(self, name: str) -> bytes:
        log = self._log()
        return self._short_log[name] if log is None else bytes(log.read(OUTPUTS.index(name), 0, _WHOLE)[0])

    def _output(self, name: str) -> Any:
        if name in self._logged():
            return self._text.decode(self._read_log(name))
        return super()._output(name)

    def _lines(self) -> Lines:
        self._open()
        files = {name: self._files[name].fileno() for name in OUTPUTS if name in self._files}
        return self._logged_lines(files)

    def _logged_lines(self, files: Mapping[str, int] = MappingProxyType({})) -> Lines:
        logged = self._logged()
        return Lines(self, dict(files), (self._log(), logged) if logged else None, self._text.decode)

    def _keep_log(self) -> None:
        """A short log is kept here, since a descriptor is worth more than its bytes."""
        kept = {name: self._log().read(OUTPUTS.index(name), 0, _SHORT + 1)[0] for name in self._logged()}
        if sum(map(len, kept.values())) <= _SHORT:
            self._short_log = kept
            self._native.forget_log()
