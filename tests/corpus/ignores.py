""".dockerignore."""

from __future__ import annotations

from corpus.case import Case, Content

_FILES: dict[str, Content] = {
    "a.txt": "a\n", "b.md": "b\n", "README.md": "r\n", "d/a.txt": "da\n", "d/b.md": "db\n", "d/e/c.txt": "c\n",
    "d/e/f/g.md": "g\n", ".hidden": "h\n", "tmp/x": "x\n", "Dockerfile.txt": "d\n",
}  # fmt: skip


def _case(name: str, ignore: str, text: str = "COPY . /x") -> Case:
    return Case(f"ignore-{name}", text, {**_FILES, ".dockerignore": ignore})


CASES = (
    _case("names", "# comment\n\na.txt\n/tmp\nd/e/\n"),
    _case("globs", "*.md\n*/*.txt\n.h*\n"),
    _case("deep", "**/*.md\n"),
    _case("exceptions", "*.md\n!README.md\nd\n!d/e/c.txt\n"),
    _case("exception-then-not", "!README.md\n**/*.md\n!d/b.md\nd/b*\n"),
    _case("all-but", "*\n!d/e\n"),
    _case("classes", "[a-b].*\nd/?/c.txt\n"),
    _case("itself", ".dockerignore\nDockerfile*\n"),
    _case("and-globs", "d/a.txt\n*.md\n", "COPY d/*.txt *.txt /x/\nADD d /y"),
    _case("spaces", "  a.txt  \n\t\n ./tmp/../tmp \n"),
)
