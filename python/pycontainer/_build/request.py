"""What Image.build was asked, checked before anything is done: its context, its Dockerfile, its words."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pycontainer._build.context import DOCKERFILE_MAX, Context, read_file
from pycontainer._build.parse import parse
from pycontainer._dockerfile import Dockerfile
from pycontainer._limits import Limits
from pycontainer._native import core
from pycontainer._text import TYPE_CHECKING, shown
from pycontainer._types import host_path, parse_bool

if TYPE_CHECKING:
    from typing import Any

    from pycontainer._build.instructions import Document
    from pycontainer._build.mounting import Secret

NETWORKS = ("none", "host")


class Request:
    """The words of one build.

    Attributes:
        context: the directory, or None.
        document: the Dockerfile, read.
        target, tag: as given; the tag in full.
        args, secrets: as given, checked.
        cache: whether what was carried out before is used.
        network: of RUN: "none" or "host".
        limits: of each RUN.
        epoch: SOURCE_DATE_EPOCH: no time in what is made is after this one.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Check them.

        Raises:
            ValueError, TypeError, InvalidReference: an argument is wrong.
            SetupError, NotSupported: the context or the Dockerfile cannot be read.
            BuildError: a mistake in the Dockerfile or the .dockerignore.
        """
        self.target = _text(given["target"], "target")
        tag = _text(given["tag"], "tag")
        self.tag = None if tag is None else _reference(tag)
        self.args = _texts(given["args"], "args")
        self.secrets = _secrets(given["secrets"])
        self.cache = parse_bool(given["cache"], "cache")
        self.network = given["network"]
        if self.network not in NETWORKS:
            raise ValueError(f"network must be 'none' or 'host', not {shown(self.network)}")
        self.limits = given["limits"]
        if not isinstance(self.limits, Limits):
            raise TypeError(f"limits must be Limits, not {type(self.limits).__name__}")
        self.epoch = _epoch(self.args.get("SOURCE_DATE_EPOCH", os.environ.get("SOURCE_DATE_EPOCH")))
        self.context = None if given["context"] is None else Context(given["context"])
        self.document = self._dockerfile(given["dockerfile"])

    def _dockerfile(self, dockerfile: object) -> Document:
        if isinstance(dockerfile, Dockerfile):
            if self.context is not None:
                self.context.read_ignore(None)
            return parse(str(dockerfile))
        if dockerfile is None:
            if self.context is None:
                raise ValueError("context or dockerfile is required")
            text, path = self.context.dockerfile()
        else:
            path = host_path(dockerfile, "dockerfile")
            text = read_file(os.path.realpath(path), DOCKERFILE_MAX)
        if self.context is not None:
            self.context.read_ignore(path)
        return parse(text, file=os.path.basename(path))


def _text(value: object, argument: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{argument} must be a str, not {type(value).__name__}")
    return value


def _reference(tag: str) -> str:
    name, _, digest = core().reference_parse(tag)
    if digest is not None:
        raise ValueError(f"tag must be a name without a digest, not {shown(tag)}")
    return str(name)


def _texts(value: object, argument: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{argument} must be a mapping of str to str, not {type(value).__name__}")
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise TypeError(f"{argument} must be a mapping of str to str: {shown(name)}")
        if not name or "\0" in name + text or "=" in name:
            raise ValueError(f"{argument} has a name or value that no variable can have: {shown(name)}")
    return dict(value)


def _secrets(value: object) -> dict[str, Secret]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"secrets must be a mapping of ids to bytes or Path, not {type(value).__name__}")
    for name, secret in value.items():
        if not isinstance(name, str):
            raise TypeError(f"secrets must have ids that are str, not {type(name).__name__}")
        if not isinstance(secret, (bytes, os.PathLike)):
            raise TypeError(f"secrets[{shown(name)}] must be bytes or Path, not {type(secret).__name__}")
    return dict(value)


def _epoch(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or int(text) > 253402300799:
        raise ValueError(f"SOURCE_DATE_EPOCH must be seconds since 1970, not {shown(text)}")
    return int(text)
