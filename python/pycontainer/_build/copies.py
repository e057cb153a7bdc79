"""COPY, ADD and WORKDIR: what they take, what they depend on, and the layer that comes of it. No container, no program."""

from __future__ import annotations

import os
import time

from pycontainer import _stored as stored
from pycontainer._build import instructions as made
from pycontainer._build.commands import destination
from pycontainer._build.draft import Layer
from pycontainer._build.fetching import Fetched, fetch
from pycontainer._build.files import Files
from pycontainer._build.ignore import PathPatterns
from pycontainer._build.parse import is_url
from pycontainer._build.source import Mistake
from pycontainer._native import core
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from pycontainer._build.draft import Draft
    from pycontainer._build.files import Taken


def files_of(layers: list[Layer]) -> Files:
    """What is in these layers, unpacked now where they were not."""
    directories = core().layer_directories(stored.store(), [tuple(layer) for layer in layers])
    return Files(core().Tree.layers(directories))


class Copying:
    """One COPY or ADD.

    Args:
        copy: expanded.
        draft: what it is laid upon.
        files: what its sources are of; None is neither a context nor an image.
        network: whether ADD can fetch.

    Raises:
        Mistake: a source that is not there, a bad pattern.
    """

    def __init__(self, copy: made.Copy | made.Add, draft: Draft, files: Files | None, *, network: bool) -> None:
        self._copy, self._draft, self._files = copy, draft, files
        self._is_add = isinstance(copy, made.Add)
        exclude = PathPatterns(copy.exclude) if copy.exclude else None
        self._taken: list[Taken] = []
        self._fetched: list[Fetched] = []
        try:
            for source in copy.sources:
                if isinstance(copy, made.Add) and is_url(source):
                    self._fetched.append(fetch(source, copy.checksum, allowed=network))
                else:
                    self._taken += self._sources(source, exclude)
        except BaseException:
            self.close()
            raise
        where = destination(draft.workdir, copy.destination)
        many = len(self._taken) + len(self._fetched) + len(copy.files) > 1
        self._path, self._is_directory = where.path, where.directory or many

    def _sources(self, source: Any, exclude: PathPatterns | None) -> list[Taken]:
        if self._files is None:
            raise Mistake("there is no context that it could be of", source, "give context= a directory")
        if isinstance(self._copy, made.Copy) and self._copy.parents:
            return self._files.with_parents(source, exclude)
        return self._files.sources(source, exclude)

    def facts(self) -> dict[str, Any]:
        """What the layer depends on: with --link and owners that are numbers, on nothing below it."""
        copy = self._copy
        chown = str(copy.chown) if copy.chown else None
        by_number = chown is None or chown.replace(":", "", 1).isdecimal()
        return {
            "below": None if copy.link and by_number else self._draft.diff_ids,
            "sources": self._files.digest(self._taken) if self._files is not None and self._taken else None,
            "files": [[str(file.name), str(file.content)] for file in copy.files],
            "fetched": [[one.name, one.digest, one.time] for one in self._fetched],
            "destination": [self._path, self._is_directory],
            "chown": chown,
            "chmod": str(copy.chmod) if copy.chmod else None,
            "link": copy.link,
            "unpack": getattr(copy, "unpack", None) if self._is_add else False,
        }

    def make(self, latest: int | None) -> Layer | None:
        """Write the layer; None where there is nothing to change."""
        copy = self._copy
        unpacks = self._is_add and getattr(copy, "unpack", None) is not False
        given: list[Any] = []
        if self._files is not None:
            given += ((self._files.tree, path, names, unpacks) for path, names in self._taken)
        # What comes from elsewhere is unpacked only where that is said.
        far = self._is_add and getattr(copy, "unpack", None) is True
        given += ((os.fsencode(one.name), one.fd, 0o600, one.time, far) for one in self._fetched)
        for file in copy.files:
            content = str(file.content).encode("utf-8", "surrogateescape")
            given.append((os.fsencode(file.name), content, 0o644, None, False))
        if not given:
            return None
        made_layer = core().layer_copy(
            stored.store(),
            files_of(self._draft.layers).tree,
            given,
            os.fsencode(self._path),
            directory=self._is_directory,
            owner=str(copy.chown) if copy.chown else None,
            chmod=str(copy.chmod) if copy.chmod else None,
            link=copy.link,
            made=int(time.time()) if latest is None else latest,
            latest=latest,
        )
        return None if made_layer is None else Layer(*made_layer)

    def close(self) -> None:
        """Let go of what was fetched."""
        for one in self._fetched:
            one.close()


def make_directory(draft: Draft, path: str, latest: int | None) -> Layer | None:
    """WORKDIR: it belongs to the USER, as docker makes it; None where it is there."""
    layer = core().layer_directory(
        stored.store(),
        files_of(draft.layers).tree,
        os.fsencode(path),
        owner=draft.config.get("User") or None,
        made=int(time.time()) if latest is None else latest,
    )
    return None if layer is None else Layer(*layer)
