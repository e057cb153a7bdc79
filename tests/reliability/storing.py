"""A store at work: what it is given, a program that works in it and tells, and what the store has to be afterwards.

The program tells each operation before and after. So it is known what was done, and which one was in flight when the
store's disk or the program itself was gone: nothing but that one's name may be lost, or there.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import json
import os
import random
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import layouts
from pycontainer import _core

# Names are docker.io/library/<letter><number>:1. What it says goes out by one write(2) each.
PROGRAM = """
import json, os, random, sys
import pycontainer as pc
place, seed, count, wanted = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
os.environ["CONTAINERS_REGISTRIES_CONF"] = f"{place}/registries.conf"
chance = random.Random(seed)
def tell(*words):
    os.write(1, (json.dumps(words) + "\\n").encode())
def load(number):
    return {f"l{number}:1": pc.Image.load(f"{place}/{chance.choice(['layout', 'archive'])}{number}")[0].digest}
def build(number):
    with open(f"{place}/context{number}/changing", "w") as file:
        file.write(str(chance.random()))
    name = f"b{number}:1"
    return {name: pc.Image.build(f"{place}/context{number}", tag=name).digest}
def pull(number):
    name = f"p{number}:{chance.randrange(1, 5)}"
    tell("names", name)
    return {name: pc.Image.pull(name).digest}
def run(number):
    script = f"echo {chance.random()} > /made; mkdir -p /d; cp /own-* /d; rm /own-*"
    made = pc.Dockerfile(based().reference).run(["sh", "-c", script]).run(["sh", "-c", "cat /made >> /made2; ls /d"])
    return {f"r{number}:1": pc.Image.build(dockerfile=made, tag=f"r{number}:1").digest}
def commit(number):
    with pc.Container(["sh", "-c", f"echo {chance.random()} > /made"], image=based()) as container:
        container.wait()
        name = f"c{number}:1"
        return {name: container.commit(name).digest}
def based():
    found = [image for image in pc.Image.all() if image.reference.rpartition("/")[2][0] in "lp"]
    return chance.choice(found or first())
def there():
    return chance.choice(pc.Image.all() or first())
def first():
    (image,) = pc.Image.load(f"{place}/layout0")
    tell("has", "l0:1", image.digest)
    return [image]
def tag(number):
    image = there()
    image.tag(f"t{number}:1")
    return {f"t{number}:1": image.digest}
def remove(number):
    names = [image.reference for image in pc.Image.all()]
    name = chance.choice(names) if names else "none:1"
    tell("names", name)
    try:
        pc.Image.get(name).remove()
    except pc.ImageNotFound:
        pass
    return {name: None}
def prune(number):
    label = {"sort": str(number % 2)}
    tell("names", *[image.reference for image in pc.Image.all()])
    return {name: None for name in pc.Image.prune(labels=label)}
WORK = {work.__name__: work for work in (load, pull, build, run, commit, tag, remove, prune)}
tell("ready")
sys.stdin.readline()
for step in range(count):
    kind = wanted[step % len(wanted)] if wanted else chance.choice(list(WORK))
    number = chance.randrange(3)
    tell("begin", kind, number)
    try:
        done = WORK[kind](number)
    except (pc.Error, OSError) as error:
        tell("failed", kind, f"{type(error).__name__}: {error}")
        sys.exit(3)
    tell("end", kind, done)
"""
LETTERS = {"load": "l", "build": "b", "run": "r", "commit": "c", "tag": "t"}


def full(name: str) -> str:
    return name if "/" in name else f"docker.io/library/{name}"


@dataclass
class Told:
    """What the program told: the names that there have to be, and those that may be either way.

    Attributes:
        names: {name: digest} after the operations that have ended.
        open: names that the operation in flight may have changed.
        flying: its kind; empty where none was in flight.
        failed: what it said of an error.
    """

    names: dict[str, str] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    flying: str = ""
    failed: str = ""
    ended: int = 0

    def hear(self, text: str) -> None:
        for line in text.splitlines():
            try:
                word, *rest = json.loads(line)
            except ValueError:
                continue  # its last line, cut short
            if word == "begin":
                self.flying, self.open = rest[0], set()
                if rest[0] in LETTERS:
                    self.open = {full(f"{LETTERS[rest[0]]}{rest[1]}:1"), full("l0:1")}
            elif word == "names":
                self.open |= set(map(full, rest))
            elif word == "has":
                self.names[full(rest[0])] = rest[1]
            elif word == "failed":
                self.failed = rest[1]
            elif word == "end":
                self.ended += 1
                self.flying, self.open = "", set()
                for name, digest in rest[1].items():
                    if digest is None:
                        self.names.pop(full(name), None)
                    else:
                        self.names[full(name)] = digest


def material(place: Path, rootfs: Path, size: int = 200_000) -> Path:
    """Three images on one base as layouts and as archives, a context for each; the same every time."""
    chance = random.Random(4)
    base = layouts.tree(rootfs)
    for number in range(3):
        own = layouts.tar({f"own-{number}": chance.randbytes(size), "dir/": None, "dir/link": "../own"})
        layout = layouts.Layout(place / f"layout{number}")
        layout.image(f"l{number}:1", [base, own], {"Labels": {"sort": str(number % 2)}})
        pack(layout.path, place / f"archive{number}")
        context = place / f"context{number}"
        context.mkdir()
        (context / "fixed").write_bytes(chance.randbytes(size // 4))
        (context / "Dockerfile").write_text("FROM scratch\nCOPY fixed /fixed\nCOPY changing /x/changing\nWORKDIR /y\n")
    return place


@contextlib.contextmanager
def registry(place: Path, size: int = 200_000) -> Iterator[None]:
    """Serves `p0` to `p2` with the tags 1 to 4, each on the base of the layouts with layers of its own.

    Where a program finds it as Docker Hub, by the registries.conf in `place`.
    """
    blobs = {f"sha256:{path.name}": path.read_bytes() for path in (place / "layout0/blobs/sha256").iterdir()}
    (row,) = json.loads((place / "layout0/index.json").read_text())["manifests"]
    manifest = json.loads(blobs[row["digest"]])
    base, base_id = manifest["layers"][0], json.loads(blobs[manifest["config"]["digest"]])["rootfs"]["diff_ids"][0]
    served = {f"blobs/{base['digest']}": blobs[base["digest"]]}
    for number, tag in itertools.product(range(3), range(1, 5)):
        chance = random.Random(10 * number + tag)
        own = [layouts.tar({f"own-{n}": chance.randbytes(size), "a/b": b""}) for n in range(2)]
        packed = [gzip.compress(data, 1, mtime=0) for data in own]
        config = {
            "architecture": "amd64", "os": "linux", "config": {"Labels": {"sort": str(number % 2)}},
            "rootfs": {"type": "layers", "diff_ids": [base_id, *map(layouts.digest, own)]},
        }  # fmt: skip
        text = json.dumps(config).encode()
        rows = [described(f"{layouts.LAYER}+gzip", data) for data in packed]
        whole = {"schemaVersion": 2, "mediaType": layouts.MANIFEST, "config": described(layouts.CONFIG, text)}
        served[f"manifests/p{number}:{tag}"] = json.dumps({**whole, "layers": [base, *rows]}).encode()
        served |= {f"blobs/{layouts.digest(data)}": data for data in (text, *packed)}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _, _, _, name, kind, what = (*self.path.split("/"), "", "", "", "", "")[:6]
            body = served.get(f"{kind}/{name}:{what}" if kind == "manifests" else f"{kind}/{what}")
            if body is None and kind == "manifests":  # by its digest
                body = next((data for data in served.values() if layouts.digest(data) == what), None)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            if kind == "manifests" and body is not None:
                self.send_header("Content-Type", layouts.MANIFEST)
                self.send_header("Docker-Content-Digest", layouts.digest(body))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body or b"")

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(OSError):  # who asked was killed
                super().handle()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        text = f'[[registry]]\nprefix = "docker.io"\nlocation = "127.0.0.1:{server.server_port}"\n'
        (place / "registries.conf").write_text(text)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def described(kind: str, data: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": layouts.digest(data), "size": len(data)}


def pack(layout: Path, archive: Path) -> None:
    import tarfile

    with tarfile.open(archive, "w") as file:
        file.add(layout, ".")


def listed(store: Path) -> dict[str, str]:
    """{name: digest} as the index says, whether they can be read or not."""
    index = store / "images/index.json"
    rows = json.loads(index.read_text())["manifests"] if index.exists() else []
    return {row["annotations"][layouts.NAME]: row["digest"] for row in rows}


def assert_sound(store: Path) -> None:
    """Every name verifies, and its layers unpack to what their tars say."""
    names = listed(store)
    assert {row[0] for row in _core.image_all(str(store))} == set(names), "a name that cannot be read"
    for digest in set(names.values()):
        _core.image_verify(str(store), digest)
        roots = _core.image_layers(str(store), digest)
        config = json.loads(_core.image_open(str(store), digest)[3])
        for root, diff_id in zip(roots, dict.fromkeys(config["rootfs"]["diff_ids"]), strict=False):
            if diff_id.removeprefix("sha256:") in os.fspath(root):
                assert tree(Path(root)) == tree_of(store, digest, diff_id), f"{root} is not what its tar says"


trees: dict[str, str] = {}


def tree_of(store: Path, digest: str, diff_id: str) -> str:
    """What a layer unpacks to in a store that nobody disturbs."""
    if diff_id not in trees:
        calm = store.parent / f"calm-{os.getpid()}"
        archive = store.parent / "calm.tar"
        _core.image_save(str(store), digest, "calm:1", str(archive), "oci")
        _core.image_load(str(calm), str(archive))
        for root in map(Path, _core.image_layers(str(calm), digest)):
            trees[f"sha256:{root.parent.name}"] = tree(root)
        import shutil

        archive.unlink()
        shutil.rmtree(calm)
    return trees[diff_id]


def tree(root: Path) -> str:
    """The digest of all that is in a directory: names, sorts, modes, owners, contents."""
    whole = hashlib.sha256()
    for above, directories, files in os.walk(root):
        directories.sort()
        for name in sorted([*files, *directories]):
            path = Path(above, name)
            seen = path.lstat()
            row = [str(path.relative_to(root)), oct(seen.st_mode), seen.st_uid, seen.st_gid, seen.st_mtime_ns]
            has_time = not path.is_dir() and not stat.S_ISCHR(seen.st_mode)  # a whiteout's is nobody's
            whole.update(json.dumps(row if has_time else row[:4]).encode())
            if stat.S_ISREG(seen.st_mode):
                whole.update(path.read_bytes())
            elif stat.S_ISLNK(seen.st_mode):
                whole.update(os.readlink(path).encode())
    return whole.hexdigest()


def assert_told(store: Path, told: Told) -> None:
    """All that was done is there; what was in flight may be, and nothing else has changed."""
    names = listed(store)
    for name in set(names) | set(told.names):
        if name not in told.open:
            assert names.get(name) == told.names.get(name), f"{name}, with {told.flying!r} of {told.open} in flight"


def next_works(store: Path, place: Path) -> None:
    """Whatever was cut off, the next one loads, names and removes."""
    ((_, digest),) = _core.image_load(str(store), str(place / "layout2"))
    _core.image_layers(str(store), digest)
    _core.image_tag(str(store), digest, "next:1")
    assert _core.image_untag(str(store), "next:1")
    assert _core.image_collect(str(store)) is not None, "somebody is at work who is not"


def leftovers(store: Path) -> list[str]:
    """What is neither complete nor a lock that every process needs."""
    rows = [f"partial/{path.name}" for path in (store / "partial").iterdir() if path.name != "work"]
    for sort in ("layers", "archives", "attributes"):
        place = store / sort
        found = [path for path in place.iterdir() if "." in path.name] if place.exists() else []
        rows += [f"{sort}/{path.name}" for path in found if not is_record_of_a_stack(path)]
    return rows


def is_record_of_a_stack(path: Path) -> bool:
    """It is whole, and all the layers that it vouches for are there."""
    version, *lines = path.read_text(errors="replace").splitlines() if path.suffix == ".stack" else [""]
    if version != "pycontainer-stack 1" or lines[-1:] != ["end"]:
        return False
    return all((path.parent / digest / "rootfs").is_dir() for digest in lines[1:-1])
