"""Files that COPY, ADD and bind mounts take: of a context without what is left out, or of layers. Names only are read here."""

from __future__ import annotations

import os
import threading

from pycontainer._build.commands import parents
from pycontainer._build.glob import source_pattern
from pycontainer._build.ignore import PathPatterns
from pycontainer._build.source import Mistake, Word, quoted
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    # A path of a tree, and of a directory what is taken of it: None is all.
    Taken: TypeAlias = tuple[bytes, list[bytes] | None]


class Files:
    """A tree of files.

    Attributes:
        tree: the native one.
        ignore: what is not there, or None.
    """

    def __init__(self, tree: Any, ignore: PathPatterns | None = None) -> None:
        self.tree = tree
        self.ignore = ignore if ignore is not None and ignore.patterns else None
        self._lock = threading.Lock()
        self._listed: dict[str, list[tuple[str, str]]] = {}

    def below(self, path: str) -> list[tuple[str, str]]:
        """Return (path, kind) of all beneath a directory, each directory before what is in it; of what is not left out."""
        with self._lock:
            if path not in self._listed:
                rows = [(os.fsdecode(name), kind) for name, kind, _ in self.tree.paths(os.fsencode(path))]
                real = self._real(path) or ""
                self._listed[path] = [row for row in rows if self._is_there(_join(real, row[0]), row[1])]
            return self._listed[path]

    def _real(self, path: str) -> str | None:
        """Where it leads: what is left out is not there by another name either."""
        found = self.tree.real(os.fsencode(path))
        return None if found is None else os.fsdecode(found).strip("/")

    def _is_there(self, path: str, kind: str) -> bool:
        if self.ignore is None or not self.ignore.matches(path):
            return True
        # Such a directory is there for the sake of what it holds.
        return kind == "d" and self.ignore.spares_below(path) and self._holds(path)

    def _holds(self, path: str) -> bool:
        assert self.ignore is not None
        rows = self.tree.paths(os.fsencode(path))
        return any(kind != "d" and not self.ignore.matches(_join(path, os.fsdecode(name))) for name, kind, _ in rows)

    def kind(self, path: str) -> str | None:
        """What is at a path, links followed: "f", "d", ...; None for nothing, and what is left out."""
        found: str | None = self.tree.kind(os.fsencode(path))
        if found is None or self.ignore is None:
            return found
        real = self._real(path) or ""
        places = [place for place in (path, real) if place]
        return found if all(self._is_there(place, found) for place in places) else None

    def whole(self, path: str, exclude: PathPatterns | None = None) -> Taken:
        """Take a file, or all of a directory."""
        if self.kind(path) != "d" or (self.ignore is None and exclude is None):
            return os.fsencode(path), None
        rows = self.below(path)
        kept = [name for name, kind in rows if exclude is None or not exclude.matches(name)]
        if len(kept) == len(rows) and self.ignore is None:
            return os.fsencode(path), None
        return os.fsencode(path), [os.fsencode(name) for name in kept]

    def sources(self, text: Word, exclude: PathPatterns | None) -> list[Taken]:
        """Take what a source of COPY or ADD names: a path, or all that a pattern matches.

        Raises:
            Mistake: nothing is there, a bad pattern.
        """
        source = source_pattern(text)
        if source.pattern is None:
            if self.kind(source.base) is None:
                raise self._missing(text, source.base)
            found = [source.base]
        else:
            found = []
            for name, _ in self.below(source.base):
                inside = any(name.startswith(f"{one}/") for one in found[-1:])
                if not inside and source.matches(name):
                    found.append(name)
            found = [_join(source.base, name) for name in found]
        return [
            self.whole(path, exclude)
            for path in found
            if exclude is None or self.kind(path) == "d" or not exclude.matches(path.rpartition("/")[2])
        ]

    def with_parents(self, text: Word, exclude: PathPatterns | None) -> list[Taken]:
        """Take what a source of COPY --parents names, with the directories on the way.

        Raises:
            Mistake: as sources().
        """
        source = parents(text)
        if source.required is not None and self.kind(source.required) is None:
            raise self._missing(text, source.required)
        pattern = PathPatterns([text.like(source.pattern)])
        rows = [name for name, _ in self.below(source.root) if pattern.matches(name) or source.pattern == "."]
        kept = [os.fsencode(name) for name in rows if exclude is None or not exclude.matches(name)]
        return [(os.fsencode(source.root), kept)] if kept else []

    def _missing(self, text: Word, path: str) -> Mistake:
        what = f"there is no {quoted(text)}"
        if self.ignore is not None and self.tree.kind(os.fsencode(path)) is not None:
            return Mistake(f"{what}: .dockerignore leaves it out", text)
        return Mistake(what, text)

    def digest(self, taken: list[Taken]) -> str:
        """Return what identifies names, kinds, modes and contents; no times."""
        return str(self.tree.digest(taken))


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name
