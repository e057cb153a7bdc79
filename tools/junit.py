"""Adds up the JUnit files of a whole run and tells what failed; its last line: `N passed, N failed, N skipped`.

    junit.py DIRECTORY [STATUS]     STATUS: of the whole run; not 0 is a failure even where no test failed

What failed stands at the end, message and place: of a long run that is often all that is kept.

Exit code 1 where anything failed or no test was executed.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

TOLD = 12  # lines of each message, and
TOLD_TESTS = 40


@dataclass(frozen=True)
class Count:
    """Tests of one runner's file, or of all."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def count(text: str) -> Count:
    """Of one JUnit document; by its test cases, since runners disagree about what the totals contain."""
    total = Count()
    for case in ElementTree.fromstring(text).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            total += Count(failed=1)
        elif "skipped" in kinds:
            total += Count(skipped=1)
        else:
            total += Count(passed=1)
    return total


def failures(text: str) -> list[str]:
    """Name, message and place, for each test of one JUnit document that failed."""
    told = []
    for case in ElementTree.fromstring(text).iter("testcase"):
        for child in case:
            if child.tag in {"failure", "error"}:
                where = (child.text or "").strip().splitlines()[-1:]
                lines = [*(child.get("message") or "").strip().splitlines()[:TOLD], *where]
                name = f"{case.get('classname', '')}::{case.get('name')}"
                told.append("\n    | ".join([name, *lines]))
    return told


def write(path: Path, name: str, results: dict[str, str | None], skipped: dict[str, str] | None = None) -> None:
    """A JUnit file for a runner that has none: {test: None, or how it failed}, {test: why skipped}."""
    suite = ElementTree.Element("testsuite", name=name)
    for test, failure in results.items():
        case = ElementTree.SubElement(suite, "testcase", classname=name, name=test)
        if failure is not None:
            ElementTree.SubElement(case, "failure", message=failure)
    for test, why in (skipped or {}).items():
        case = ElementTree.SubElement(suite, "testcase", classname=name, name=test)
        ElementTree.SubElement(case, "skipped", message=why)
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def main(argv: list[str]) -> int:
    directory, status = Path(argv[0]), int(argv[1]) if len(argv) > 1 else 0
    total = Count()
    texts = {path.stem: path.read_text() for path in sorted(directory.glob("*.xml"))}
    for told in [f"{stem}: {told}" for stem, text in texts.items() for told in failures(text)][:TOLD_TESTS]:
        print(told)
    for stem, text in texts.items():
        one = count(text)
        print(f"  {stem:<20} {one}")
        total += one
    if status and not total.failed:
        print(f"  a session failed outside of its tests (exit status {status})")
        total += Count(failed=1)
    print(total)
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
