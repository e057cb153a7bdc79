"""The list of expected skips: reads skips.txt and says which skips of a run are not on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("skips.txt")


@dataclass(frozen=True)
class Entry:
    """One line of the list."""

    kind: str
    test: str
    reason: str

    def covers(self, kind: str, test: str) -> bool:
        return matches(self.kind, kind) and matches(self.test, test)


def matches(pattern: str, text: str) -> bool:
    """`*` is anything; all else is itself, brackets of parameters too."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


def parse(text: str) -> list[Entry]:
    """ValueError: a line without a reason."""
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split(None, 2)
        if len(words) < 3:
            raise ValueError(f"{LIST.name}:{number}: expected KIND TEST reason, got {line!r}")
        entries.append(Entry(*words))
    return entries


def unlisted(entries: list[Entry], kind: str, skipped: dict[str, str]) -> dict[str, str]:
    """Of {test: reason} those that no entry covers."""
    return {test: why for test, why in skipped.items() if not any(entry.covers(kind, test) for entry in entries)}
