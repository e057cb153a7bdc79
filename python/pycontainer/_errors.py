"""The exceptions of the package, one tree. Decides nothing and formats only: no kernel call, no import of results.

Error
    SetupError                              also OSError
        CommandNotFound                     also FileNotFoundError
        CommandNotExecutable                also PermissionError
    NotSupported
    TimeoutExpired, CalledProcessError      of _failures
    StateError
        ContainerEnded
    RemoteError
    ImageError
        ImageNotFound, InvalidReference, DigestMismatch, LayerError, RegistryError, AuthError, BuildError, NoSpaceError

Positional arguments are the base class's; everything else is an attribute in `__dict__`. That is what lets each of them
go through pickle and copy whole, notes included: BaseException.__reduce__ carries the arguments and `__dict__`.
Does not import subprocess, which takes longer than all of this package; what extends its classes is in _failures.
"""

from __future__ import annotations

import os

from pycontainer._text import TYPE_CHECKING, escape

if TYPE_CHECKING:
    from typing import Any

    from pycontainer._result import Result


class Error(Exception):
    """Base of everything that this package raises, but for ValueError and TypeError, which a caller's mistake gets.

    Its text is safe to print: control characters and the like, in names that come from images, containers or
    registries, are escaped.
    """

    def _text(self) -> str:
        return super().__str__()

    def __str__(self) -> str:
        return escape(self._text(), keep="\n")


class SetupError(Error, OSError):
    """The container could not be started; the command did not run.

    Attributes:
        errno: the kernel's error number.
        strerror: its text.
        filename: the path it is about, or None.
        step: what was being done, such as "mount overlay on", or None.
    """

    def __init__(
        self,
        errno: int,
        strerror: str | None = None,
        filename: str | bytes | None = None,
        *,
        step: str | None = None,
        hint: str | None = None,
    ) -> None:
        strerror = os.strerror(errno) if strerror is None else strerror
        if filename is None:
            super().__init__(errno, strerror)
        else:
            super().__init__(errno, strerror, filename)
        self.step = step
        self._hint = hint

    def _subject(self) -> str:
        return " ".join(escape(part) for part in (self.step, self.filename) if part is not None)

    def _text(self) -> str:
        what = ": ".join(part for part in (self._subject(), self.strerror) if part)
        return f"{what} ({self._hint})" if self._hint else what


class CommandNotFound(SetupError, FileNotFoundError):
    """The command is not in the container. `filename` is the command; a shell would say 127."""

    def _subject(self) -> str:
        return f"command not found in the container: {escape(self.filename or '')}"

    def _text(self) -> str:
        return f"{self._subject()} ({self._hint})" if self._hint else self._subject()


class CommandNotExecutable(SetupError, PermissionError):
    """The command is in the container and cannot be executed. `filename` is the command; a shell would say 126."""

    def _subject(self) -> str:
        return f"cannot execute {escape(self.filename or '')}"


class NotSupported(Error):
    """This machine, or this version, cannot hold what was asked; nothing was started.

    Attributes:
        requirement: what was asked.
        cause: why it cannot be had here.
        fix: the command or the parameter that cures it.
    """

    def __init__(self, requirement: str, cause: str = "", fix: str = "") -> None:
        super().__init__(requirement, cause, fix)
        self.requirement = requirement
        self.cause = cause
        self.fix = fix

    def _text(self) -> str:
        head = f"{self.requirement}: {self.cause}" if self.cause else self.requirement
        return f"{head}; {self.fix}" if self.fix else head


class StateError(Error):
    """The object is not in a state in which this can be done: closed, not started, or used in a forked copy."""


class ContainerEnded(StateError):
    """The container ended before what was waited for.

    Attributes:
        result: its Result, or None where it is not known.
    """

    def __init__(self, message: str = "", *, result: Result[Any] | None = None) -> None:
        super().__init__(message)
        self.result = result


class RemoteError(Error):
    """A function in a container raised something that cannot come back as itself.

    Attributes:
        type_name: the exception's type, as text.
        traceback: its traceback, as text.
    """

    def __init__(self, message: str = "", *, type_name: str | None = None, traceback: str | None = None) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.traceback = traceback


class ImageError(Error):
    """Something is wrong with an image, a store or a registry."""


class ImageNotFound(ImageError, LookupError):
    """No image of this reference, here or in the registry."""


class InvalidReference(ImageError, ValueError):
    """Not a reference: it breaks the grammar of names, tags and digests."""


class DigestMismatch(ImageError):
    """Content is not what its digest says."""


class LayerError(ImageError):
    """A layer that cannot be read, or that asks for what a layer may not do."""


class RegistryError(ImageError):
    """A registry answered with an error.

    Attributes:
        status: the HTTP status, or None where there was no answer.
        code: the registry's own code, such as "TOOMANYREQUESTS", or None.
    """

    def __init__(self, message: str = "", *, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class AuthError(ImageError):
    """A registry refused the credentials, or asked for some."""


class BuildError(ImageError):
    """A step of a build failed.

    Attributes:
        step: the instruction, as written.
        line: its line in the Dockerfile, from 1, or None.
        log: the last output of the step, as text.
    """

    def __init__(
        self, message: str = "", *, step: str | None = None, line: int | None = None, log: str | None = None
    ) -> None:
        super().__init__(message)
        self.step = step
        self.line = line
        self.log = log


class NoSpaceError(ImageError, OSError):
    """The store's file system is full. Arguments are OSError's."""
