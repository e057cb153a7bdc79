"""Dockerfiles and ignore files under atheris: a mistake in them is a BuildError at a place in the text, nothing else.

texts.py TARGET CORPUS [LIBFUZZER-OPTION...]
"""

import sys

import atheris

with atheris.instrument_imports(include=["pycontainer._build"]):
    from pycontainer._build.expand import expand
    from pycontainer._build.ignore import IgnoreFile
    from pycontainer._build.parse import parse
from pycontainer._errors import BuildError
from pycontainer._native import core

VARIABLES = {"A": "a", "B": "", "PATH": "/bin:/usr/bin", "X1": "${A}"}
PATHS = ("a", "a/b", "a/b/c.txt", ".git/HEAD", "node_modules/x", "ä/ö")


def check(error: BuildError, text: str) -> None:
    """It says where in the text."""
    assert error.line in range(1, text.count("\n") + 2), str(error)


def dockerfile(data: bytes) -> None:
    """Read, then its variables replaced."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        document = parse(data)
        for instruction in document.instructions:
            expand(instruction, VARIABLES, escape=document.escape)
    except BuildError as error:
        check(error, text)


def ignore(data: bytes) -> None:
    """Read, then asked; what is kept lies in no directory that is pruned."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = IgnoreFile(data)
    except BuildError as error:
        check(error, text)
        return
    for path in PATHS:
        excluded = found.excludes(path)
        parent = path.rpartition("/")[0]
        assert excluded or not parent or not found.prunes(parent), f"{path} is kept, {parent} is pruned"


if __name__ == "__main__":
    core()
    atheris.Setup([sys.argv[0], *sys.argv[2:]], {"dockerfile": dockerfile, "ignore": ignore}[sys.argv[1]])
    atheris.Fuzz()
