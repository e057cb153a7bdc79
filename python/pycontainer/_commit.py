"""What a container has made, as an image of the store or as a tar. The engine reads its files, and runs none of it."""

from __future__ import annotations

import contextlib
import os
import time

from pycontainer import _arguments, _stored as stored
from pycontainer._errors import Error, StateError
from pycontainer._image import Image
from pycontainer._native import core
from pycontainer._text import TYPE_CHECKING
from pycontainer._types import encode, host_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from pycontainer._spec import Spec
    from pycontainer._types import Arg

# The config of an image, in its own words, for those of run().
SAID = ("args", "entrypoint", "env", "cwd", "user")


class Layers:
    """What Container does with all of its files at once.

    It can be done as long as it has files: before it is started, while it runs or is paused, when it has exited. One
    that runs stands still meanwhile, where this machine has a freezer, so that what is taken is of one moment.
    """

    image: Image
    labels: dict[str, str]
    # What was said of SAID, as it was given.
    _words: Mapping[str, Any]
    _spec: Spec

    if TYPE_CHECKING:

        @property
        def state(self) -> str:
            """Of Container."""

        def _reachable(self) -> Any: ...

        def _control(self) -> Any: ...

    def commit(self, reference: str) -> Image:
        """Make an image of what it has become, as `docker commit` does: the layers of its image and one of its changes.

        The config is the image's, but for the command, environment, working directory and user that this container was
        given, and its labels. Deleted names, owners, set-id bits, file capabilities, attributes `user.*`, devices,
        hard links and holes are in the layer; sockets, what is mounted, and the engine's own files (/etc/hosts,
        mount points) are not. Of a container on a directory or an archive the whole root becomes the one layer. With
        SOURCE_DATE_EPOCH in the environment no time is later, and equal changes have equal digests.

        Args:
            reference: the image's name; it is taken from whatever had it.

        Raises:
            InvalidReference: it breaks the grammar of references, or has a digest.
            NotSupported: it stands on `Image.host()`, which has no layers.
            LayerError: a name begins with ".wh.", which a layer cannot hold.
            NoSpaceError: the store's file system is full.
            SetupError: something could not be read, or not be written.
            StateError: the container is closed.
        """
        return self._commit_as(reference, None)

    def _commit_as(self, reference: str, events: Any) -> Image:
        """Likewise; `events` is called now and then, and can end it by what it raises."""
        if not isinstance(reference, str):
            raise TypeError(f"reference must be a str, not {type(reference).__name__}")
        import json  # noqa: PLC0415 - milliseconds, for those who only run

        name = core().reference_parse(reference)[0]
        native = self._reachable()
        changes, epoch = json.dumps(self._changes()), source_date_epoch()
        created = int(time.time()) if epoch is None else epoch
        by = _text(b" ".join(self._spec.argv))
        with self._still(native):
            digest = core().container_commit(
                native, stored.store(), self.image.digest, name, changes, created, by, latest=epoch, events=events
            )
        return _committed(digest, name)

    def export(self, path: Arg) -> None:
        """Write its whole root file system to a tar, as `docker export` does.

        What is mounted in it is not part of it: a directory under a mount is empty, a file is as its image has it. A
        file that is there is replaced when all of the new one is on the disk.

        Args:
            path: of this machine; its directory must be there.

        Raises:
            SetupError: something could not be read, or `path` not be written; `filename` says what.
            NoSpaceError: the file system of `path` is full; nothing is left.
            StateError: the container is closed.
        """
        self._export_to(path, None)

    def _export_to(self, path: Arg, events: Any) -> None:
        target, epoch = os.path.abspath(host_path(path, "path")), source_date_epoch()
        if encode(path, "path").endswith(b"/"):
            target += "/"  # a directory, whatever is there
        native = self._reachable()
        with self._still(native):
            core().container_export(native, target, epoch, events)

    @contextlib.contextmanager
    def _still(self, native: Any) -> Iterator[None]:
        """Nothing of it runs; where it cannot be stopped it runs on, as with copy_out()."""
        with self._control():
            frozen = self.state == "RUNNING"
            if frozen:
                try:
                    core().container_freeze(native, True)
                except Error:
                    frozen = False
            try:
                yield
            finally:
                if frozen:
                    with contextlib.suppress(StateError):
                        core().container_freeze(native, False)

    def _changes(self) -> dict[str, Any]:
        """Of the config, what was said of this container."""
        said, config = self._words, self.image.config
        changes: dict[str, Any] = {}
        if said["entrypoint"] is not None:
            entrypoint = _arguments.command(said["entrypoint"], "entrypoint", empty=True)
            changes["Entrypoint"] = [_text(word) for word in entrypoint] or None
            changes["Cmd"] = None
        if said["args"] is not None:
            changes["Cmd"] = [_text(word) for word in _arguments.command(said["args"])]
        if said["env"]:
            have = dict(item.partition("=")[::2] for item in config.get("Env") or ())
            for key, value in _arguments.environment(said["env"]):
                have.pop(_text(key), None) if value is None else have.update({_text(key): _text(value)})
            changes["Env"] = [f"{key}={value}" for key, value in have.items()]
        if said["cwd"] is not None:
            changes["WorkingDir"] = _text(encode(said["cwd"], "cwd"))
        if said["user"] is not None:
            changes["User"] = _arguments.user(said["user"])
        if self.labels:
            changes["Labels"] = {**(config.get("Labels") or {}), **self.labels}
        return changes


def _text(value: bytes) -> str:
    """JSON has no other bytes; docker writes the same."""
    return value.decode("utf-8", "replace")


def _committed(digest: str, name: str) -> Image:
    return Image._of(name, *stored.opened(digest)[1:])


def source_date_epoch() -> int | None:
    """Return the seconds since 1970 of the environment's SOURCE_DATE_EPOCH (reproducible-builds.org).

    Raises:
        ValueError: it is no such number.
    """
    said = os.environ.get("SOURCE_DATE_EPOCH")
    if not said:
        return None
    if not (said.isascii() and said.isdecimal() and len(said) < 13):
        raise ValueError(f"SOURCE_DATE_EPOCH must be seconds since 1970, not {said!r}")
    return int(said)
