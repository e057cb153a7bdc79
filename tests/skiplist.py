"""The list of expected skips: reads skips.txt and says which skips of a run are not on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("skips.txt")


@dataclass(frozen=True)
class Entry:
    """One line of the list; `needs` are requirements, for the lack of any of which the test may be skipped."""

    kinds: tuple[str, ...]
    test: str
    needs: tuple[str, ...]
    reason: str

    def covers(self, kind: str, test: str, lacking: str) -> bool:
        return (
            any(matches(word, kind) for word in self.kinds)
            and matches(self.test, test)
            and any(matches(word, lacking) for word in self.needs)
        )


def matches(pattern: str, text: str) -> bool:
    """`*` is anything; all else is itself, brackets of parameters too."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


def parse(text: str) -> list[Entry]:
    """ValueError: a line without a reason."""
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split(None, 3)
        if len(words) < 4:
            raise ValueError(f"{LIST.name}:{number}: expected KINDS TEST NEEDS reason, got {line!r}")
        kinds, test, needs, reason = words
        entries.append(Entry(tuple(kinds.split(",")), test, tuple(needs.split(",")), reason))
    return entries


def lacking(why: str) -> str:
    """The requirement in what a skip says; none where the test skipped itself, which no line covers."""
    found = re.match(r"requires (\S+): ", why)
    return found[1] if found else ""


def unlisted(entries: list[Entry], kind: str, skipped: dict[str, str]) -> dict[str, str]:
    """Of {test: reason} those that no entry covers, for that requirement."""
    covered = {
        test for test, why in skipped.items() if any(entry.covers(kind, test, lacking(why)) for entry in entries)
    }
    return {test: why for test, why in skipped.items() if test not in covered}
