"""Runs the Python examples of README.md and docs, and compares what they print with what the pages say.

    doc_examples.py [--junit FILE] [--suite NAME] PAGE...

The ```python blocks of one page share one namespace and run in order, in an interpreter of their own, in an empty
working directory; `__file__` is the page. A plain ``` block after one of them, before the next heading, is what it
prints: `...` stands for anything, as in doctest. Where users or machines differ there are several, and one must fit. A
block that prints must have one. A block that cannot run stands below a line `<!-- no-run: reason -->`; such blocks are
counted and listed. ```python signature blocks are no examples: the public-surface test compares them with the package.
"""

from __future__ import annotations

import argparse
import contextlib
import doctest
import io
import json
import re
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import junit

FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>[^\n]*)\n(?P<text>.*?)^(?P=indent)```[ \t]*$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ ", re.MULTILINE)
NO_RUN = re.compile(r"<!-- no-run: (?P<reason>.+?) -->\s*\Z")
TIMEOUT = 300  # seconds for one page


@dataclass(frozen=True)
class Block:
    """One example: where it stands, its code, why it does not run (None: it does), and what it may print."""

    page: str
    line: int
    code: str
    no_run: str | None
    printed: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str, text: str) -> list[Block]:
    """The ```python blocks of one page, in order; `line` is that of the first line of code."""
    found: list[Block] = []
    end, after_example = 0, False
    for match in FENCE.finditer(text):
        between, end = text[end : match.start()], match.end()
        kind, width = match["kind"].strip(), len(match["indent"])
        content = "".join(line[width:] if line.strip() else line for line in match["text"].splitlines(keepends=True))
        after_example = after_example and not HEADING.search(between)
        if kind == "python":
            reason = NO_RUN.search(text[: match.start()])
            line = text.count("\n", 0, match.start("text")) + 1
            found.append(Block(page, line, content, reason["reason"] if reason else None))
        elif kind == "" and after_example:
            found[-1] = replace(found[-1], printed=(*found[-1].printed, content))
        after_example = kind == "python" or (kind == "" and after_example)
    return found


def differs(expected: tuple[str, ...], printed: str) -> str | None:
    """None where one of the page's blocks fits; blanks at the ends of lines, and the last empty lines, do not count."""

    def lines(text: str) -> str:
        return "".join(f"{line.rstrip()}\n" for line in text.rstrip().splitlines())

    def fits(text: str) -> bool:
        return doctest.OutputChecker().check_output(lines(text), lines(printed), doctest.ELLIPSIS)

    if not expected:
        return f"it prints, and the page does not say what:\n{printed}" if printed.strip() else None
    if any(fits(text) for text in expected):
        return None
    return f"it printed:\n{printed}\nand the page says:\n" + "\nor:\n".join(expected)


class Copied(io.StringIO):
    """What is printed, kept, and shown all the same."""

    def write(self, text: str) -> int:
        sys.__stdout__.write(text)  # type: ignore[union-attr]
        return super().write(text)


def run_page(page: list[Block], reports: Path) -> None:
    """In the child: run the blocks and write {name: None or traceback} after each, so that a crash names its block."""
    namespace: dict[str, object] = {"__name__": "__main__", "__file__": page[0].page}
    done: dict[str, str | None] = {}
    for block in page:
        done[block.name] = "the interpreter ended in this block"
        reports.write_text(json.dumps(done))
        print(f"--- {block.name}", flush=True)
        try:
            with contextlib.redirect_stdout(Copied()) as printed:
                # The line numbers of a traceback are those of the page.
                exec(compile("\n" * (block.line - 1) + block.code, block.page, "exec"), namespace)
            done[block.name] = differs(block.printed, printed.getvalue())
        except BaseException:
            done[block.name] = traceback.format_exc()
        reports.write_text(json.dumps(done))


def run_apart(page: list[Block]) -> dict[str, str | None]:
    """Run one page's blocks in an interpreter and a working directory of their own."""
    with tempfile.TemporaryDirectory() as scratch:
        reports = Path(scratch, "reports.json")
        argv = [sys.executable, __file__, "--child", str(reports), str(Path(page[0].page).resolve())]
        work = Path(scratch, "work")
        work.mkdir()
        try:
            subprocess.run(argv, cwd=work, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            print(f"{page[0].page}: not done after {TIMEOUT} s")
        done = json.loads(reports.read_text()) if reports.exists() else {}
    by_line = {name.rpartition(":")[2]: failure for name, failure in done.items()}
    return {block.name: by_line.get(str(block.line), "not reached") for block in page}


def runnable(path: Path) -> list[Block]:
    return [block for block in blocks(str(path), path.read_text()) if block.no_run is None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--junit", type=Path)
    parser.add_argument("--suite", default="docs", help="the name of the JUnit suite")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("pages", nargs="+", type=Path)
    options = parser.parse_args()
    if options.child:
        run_page(runnable(options.pages[0]), options.child)
        return 0
    results: dict[str, str | None] = {}
    passed_over: dict[str, str] = {}
    for path in options.pages:
        passed_over |= {block.name: block.no_run for block in blocks(str(path), path.read_text()) if block.no_run}
        if page := runnable(path):
            results |= run_apart(page)
    return report(results, passed_over, options)


def report(results: dict[str, str | None], passed_over: dict[str, str], options: argparse.Namespace) -> int:
    failures = {name: failure for name, failure in results.items() if failure is not None}
    for name, reason in passed_over.items():
        print(f"not run: {name}: {reason}")
    for name, failure in failures.items():
        print(f"FAILED: {name}\n{failure}")
    if options.junit:
        junit.write(options.junit, options.suite, results, passed_over)
    print(junit.Count(len(results) - len(failures), len(failures), len(passed_over)))
    return 1 if failures or not results else 0


if __name__ == "__main__":
    sys.exit(main())
