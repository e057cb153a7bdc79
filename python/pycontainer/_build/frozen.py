"""Frozen values with named fields. Hand-written: `dataclasses` imports inspect and compiles six functions a class.

There are forty of them, and the first build of a process would pay for all.
"""

from __future__ import annotations

from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, ClassVar, NoReturn, Self, dataclass_transform
else:

    def dataclass_transform(**_):
        """What type checkers read: the annotations of a class are its fields."""
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class Value:
    """Base of the values: annotations are fields, those of the base first; what a class sets is a default."""

    _fields: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}
    _silent: ClassVar[frozenset[str]] = frozenset()  # neither compared nor shown

    def __init_subclass__(cls, silent: tuple[str, ...] = ()) -> None:
        own = [name for name in cls.__annotations__ if not name.startswith("_")]
        cls._fields = (*cls._fields, *own)
        cls._defaults = {**cls._defaults, **{name: cls.__dict__[name] for name in own if name in cls.__dict__}}
        cls._silent = cls._silent | frozenset(silent)

    if not TYPE_CHECKING:

        def __init__(self, *first, **given):
            values = {**self._defaults, **dict(zip(self._fields, first, strict=False)), **given}
            if len(values) != len(self._fields) or not values.keys() <= set(self._fields):
                wrong = set(values) ^ set(self._fields)
                raise TypeError(f"{type(self).__name__}: fields that are missing or unknown: {sorted(wrong)}")
            self.__dict__.update(values)

    def but(self, **changes: Any) -> Self:
        """The same with some fields changed."""
        return type(self)(**{**self.__dict__, **changes})

    def _said(self) -> tuple[Any, ...]:
        own = self.__dict__
        return tuple(own[name] for name in self._fields if name not in self._silent)

    def __eq__(self, other: object) -> bool:
        return self._said() == other._said() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), self._said()))

    def __repr__(self) -> str:
        own = self.__dict__
        shown = (f"{name}={own[name]!r}" for name in self._fields if name not in self._silent)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")
