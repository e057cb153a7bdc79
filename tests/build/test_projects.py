"""Projects of more than one stage, with caches, built without a network on bases that are made of this machine's tools.

What is built again is what has changed: by the steps that were carried out, and by what make and the project's own
builder say they have done.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
import toolchains
from building import Builder
from pace import patience

pytestmark = [pytest.mark.requires("userns"), pytest.mark.timeout(patience(180))]

C = {
    "Makefile": """OBJECTS = $(O)/main.o $(O)/count.o $(O)/words.o
$(O)/app: $(OBJECTS)
\tgcc -o $@ $^
$(O)/%.o: %.c words.h
\tgcc -O1 -Wall -Werror -c -o $@ $<
""",
    "words.h": "int count(const char *text);\nconst char *words(void);\n",
    "main.c": '#include <stdio.h>\n#include "words.h"\nint main(void) { printf("%d\\n", count(words())); }\n',
    "count.c": '#include <string.h>\n#include "words.h"\nint count(const char *text) { return (int)strlen(text); }\n',
    "words.c": '#include "words.h"\nconst char *words(void) { return "four"; }\n',
}
DOCKERFILE = """FROM toolchain:1 AS build
RUN gcc --version > /tmp/compiler
WORKDIR /src
COPY src .
RUN --mount=type=cache,target=/obj make O=/obj && mkdir /out && cat /obj/app > /out/app

FROM toolchain:1
COPY --from=build --chmod=755 /out/app /usr/local/bin/app
CMD ["/usr/local/bin/app"]
"""

PACKAGE = {
    "greet/__init__.py": "from greet.words import HELLO\n",
    "greet/words.py": 'HELLO = "hello"\n',
    "greet/__main__.py": "import sys, greet\nprint(greet.HELLO, *sys.argv[1:])\n",
    "build.py": """import pathlib, py_compile, sys, zipfile
source, cache, out = map(pathlib.Path, sys.argv[1:])
with zipfile.ZipFile(out, "w") as file:
    file.writestr("__main__.py", "import runpy; runpy.run_module('greet', run_name='__main__')")
    for path in sorted(source.glob("greet/*.py")):
        made = cache / (path.name + "c")
        if not made.exists() or made.stat().st_mtime < path.stat().st_mtime:
            print("compiled", path.name)
            py_compile.compile(str(path), str(made), doraise=True)
        file.write(made, f"greet/{path.name}c")
""",
}
PYTHON = """FROM python-here:1 AS base
ENV PYTHONDONTWRITEBYTECODE=1

FROM base AS build
RUN python3 -c 'import sys, zipfile; print(sys.version_info[0])'
RUN --mount=type=cache,target=/cache --mount=type=bind,source=pkg,target=/src \\
    mkdir /out && python3 /src/build.py /src /cache /out/greet.pyz

FROM base AS test
COPY --from=build /out/greet.pyz /
RUN python3 /greet.pyz from the test | cat > /said

FROM base
COPY --from=test /said /said
COPY --from=build /out/greet.pyz /app/
ENTRYPOINT ["python3", "/app/greet.pyz"]
CMD ["world"]
"""


@pytest.fixture(scope="module")
def base(scratch: Path) -> Callable[[str, Callable[[], bytes]], Path]:
    """A layout with the image of that name, made once."""
    made: dict[str, Path] = {}

    def get(name: str, data: Callable[[], bytes]) -> Path:
        if name not in made:
            place = Path(tempfile.mkdtemp(prefix="toolchain-", dir=scratch)) / "layout"
            made[name] = toolchains.store(place, name, data())
        return made[name]

    return get


def put(builder: Builder, place: str, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = builder.context / place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def compiled(builder: Builder) -> list[str]:
    """What the compiler was called for, in that order."""
    return [line.rpartition(" ")[2] for line in builder.output().splitlines() if " -c " in line]


@pytest.mark.requires("program:gcc", "program:make")
def test_a_c_project(builder: Builder, base: Any) -> None:
    pc.Image.load(base("toolchain:1", toolchains.compiler))
    put(builder, "src", C)
    image = builder.build(DOCKERFILE, tag="app:1")
    assert compiled(builder) == ["main.c", "count.c", "words.c"]
    assert pc.run(image=image, text=True, check=True).stdout == "4\n"

    # All over again: no step is carried out.
    assert builder.build(DOCKERFILE) == image
    assert builder.kinds() + builder.kinds("COPY") == ["cached"] * 4

    # One source is another: the step before is not carried out, one object is compiled, in the cache that was there.
    # Times in a layer are whole seconds, and make looks for a source that is newer.
    time.sleep(1.1)
    put(builder, "src", {"words.c": C["words.c"].replace("four", "seven!!")})
    changed = builder.build(DOCKERFILE, tag="app:1")
    assert builder.kinds() == ["cached", "done"]
    assert compiled(builder) == ["words.c"]
    assert pc.run(image=changed, text=True, check=True).stdout == "7\n"

    # Of the compiler's stage nothing but the program is in the image, and of the cache nothing at all.
    assert not {name for name in changed.files() if name.startswith(("/src", "/obj", "/out"))}
    assert changed.layers[:-1] == pc.Image.get("toolchain:1").layers
    changed.verify()


@pytest.mark.requires("program:/usr/bin/python3")
def test_a_python_project(builder: Builder, base: Any) -> None:
    pc.Image.load(base("python-here:1", toolchains.python))
    put(builder, "pkg", PACKAGE)
    image = builder.build(PYTHON, tag="greet:1")
    assert builder.output().count("compiled ") == 3
    assert pc.run(image=image, text=True, check=True).stdout == "hello world\n"
    assert image.open("/said").read() == b"hello from the test\n"

    assert builder.build(PYTHON) == image
    assert set(builder.kinds()) == {"cached"}

    put(builder, "pkg", {"greet/words.py": 'HELLO = "good morning"\n'})
    changed = builder.build(PYTHON, tag="greet:1")
    assert sorted(builder.kinds()) == ["cached", "done", "done"]  # the first is the one before the cache's
    assert [line for line in builder.output().splitlines() if line.startswith("compiled")] == ["compiled words.py"]
    assert pc.run(image=changed, text=True, check=True).stdout == "good morning world\n"
    # A target that needs no test has none.
    builder.build(PYTHON, target="build")
    assert {one.stage for one in builder.events if one.kind in ("cached", "done")} == {"base", "build"}
