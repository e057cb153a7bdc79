"""Bases made on this machine, without a network: a C compiler with make, and Python, as a layer of the host's files."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import layouts

CONFIG = {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sh"]}
SHELL = ["sh", "cat", "echo", "ls", "rm", "mkdir", "touch", "sleep", "wc"]
HEADERS = ["stdio", "stdlib", "string"]


def said(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def whole(path: str | Path) -> Path:
    """The path without links in its directories: where the file lies."""
    path = Path(os.path.normpath(path))
    return path.parent.resolve() / path.name


def libraries(programs: Iterable[Path]) -> Iterator[Path]:
    """All that the loader maps for these, itself included."""
    for program in programs:
        done = subprocess.run(["ldd", str(program)], check=False, capture_output=True, text=True)
        for found in re.findall(r"(/\S+) \(0x", done.stdout):
            yield Path(found)


def layer(files: Iterable[Path]) -> bytes:
    """These files of the host at their places, links followed, with busybox's shell."""
    places = {whole(path): path for path in files}
    out, made = io.BytesIO(), set[Path]()

    def add(file: tarfile.TarFile, name: Path, data: bytes | str | None, mode: int) -> None:
        for above in reversed(name.parents[:-1]):
            if above not in made:
                add(file, above, None, 0o755)
        info = tarfile.TarInfo(str(name)[1:])
        info.mode, info.type = mode, {str: tarfile.SYMTYPE, bytes: tarfile.REGTYPE}.get(type(data), tarfile.DIRTYPE)
        info.size, info.linkname = len(data) if isinstance(data, bytes) else 0, data if isinstance(data, str) else ""
        file.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
        made.add(name)

    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as file:
        for link in map(Path, ("/bin", "/sbin", "/lib", "/lib64")):
            if link.is_symlink():  # a merged /usr
                add(file, link, os.readlink(link), 0o777)
        for name, path in sorted(places.items()):
            add(file, name, path.read_bytes(), path.stat().st_mode & 0o755)
        bin_ = whole("/bin/x").parent
        add(file, bin_ / "busybox", Path(shutil.which("busybox") or "").read_bytes(), 0o755)
        for name in SHELL:
            if bin_ / name not in places:
                add(file, bin_ / name, "busybox", 0o777)
        for name in ("/tmp", "/root"):
            add(file, Path(name), None, 0o1777 if name == "/tmp" else 0o700)
    return out.getvalue()


def compiler() -> bytes:
    """gcc, as, ld and make, with start files, libraries and the headers of HEADERS."""
    program = {name: Path(shutil.which(name, path="/usr/bin") or "") for name in ("gcc", "as", "ld", "make")}
    inner = [Path(said("gcc", f"-print-prog-name={name}")) for name in ("cc1", "collect2")]
    files = [*program.values(), *inner, *inner[0].parent.glob("liblto_plugin.so")]
    files += libraries([*program.values(), *inner])
    own = Path(said("gcc", "-print-libgcc-file-name")).parent
    files += [path for path in own.iterdir() if path.suffix in (".o", ".a", ".so") and path.stat().st_size < 8 << 20]
    for name in ("crt1.o", "Scrt1.o", "crti.o", "crtn.o", "libc.so", "libc_nonshared.a", "libc.so.6", "libgcc_s.so.1"):
        found = Path(said("gcc", f"-print-file-name={name}"))
        files += [found] if found.is_absolute() else []
    source = "".join(f"#include <{name}.h>\n" for name in HEADERS)
    rule = subprocess.run(
        ["gcc", "-O1", "-M", "-x", "c", "-"], input=source, check=True, capture_output=True, text=True
    )
    return layer([*files, *(Path(word) for word in rule.stdout.split() if word.startswith("/"))])


def python() -> bytes:
    """The system's Python and its standard library."""
    program = Path("/usr/bin/python3")
    place = Path(said(str(program), "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"))
    left_out = {
        "__pycache__",
        "dist-packages",
        "site-packages",
        "test",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "ensurepip",
    }
    files = [path for path in place.rglob("*") if path.is_file() and not left_out & set(path.parts)]
    files = [path for path in files if path.suffix in (".py", ".so") and os.access(path, os.R_OK)]
    return layer([program, *files, *libraries([program, *(path for path in files if path.suffix == ".so")])])


def store(place: Path, name: str, data: bytes) -> Path:
    """A layout with one image of that layer."""
    layouts.Layout(place).image(name, [data], CONFIG, compress=False)
    return place
