"""Images of many layers: one record and one lock for all of them, which keeps each of them as its own lock would."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import layouts
import pycontainer as pc
from layouts import Layout

TALL = 6
COLLECT = "import pycontainer as pc; print(pc.Image.prune())"


@pytest.fixture
def tall(layout: Layout, base: bytes) -> pc.Image:
    layers = [layouts.tar({f"n{number}": b"x", "top": b"%d" % number}) for number in range(1, TALL)]
    layout.image("tall:1", [base, *layers])
    (image,) = pc.Image.load(layout.path)
    return image


def records(store: Path) -> list[Path]:
    return sorted((store / "layers").glob("*.stack"))


def top(image: pc.Image) -> bytes:
    return pc.run(["cat", "/top"], image=image, check=True).stdout


def elsewhere(code: str = COLLECT) -> str:
    """In another process of this user."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.requires("userns")
def test_what_corrects_a_tall_stack_lies_beside_its_record(layout: Layout, base: bytes, store: Path) -> None:
    """The layers are one lock all the same, and the correction another: neither goes while a container is there."""
    below = tarfile.TarInfo("open")
    below.type, below.mode = tarfile.DIRTYPE, 0o1777
    layers = [layouts.tar({f"open/n{number}": b"x"}) for number in range(1, TALL)]
    layout.image("tall:1", [base, layouts.tar({"open": below}), *layers])
    (image,) = pc.Image.load(layout.path)
    (correction,) = (store / "attributes").iterdir()
    for _ in range(2):
        pc.run(["true"], image=image, check=True)  # it holds each layer, and writes the record
        with pc.Container(["sleep", "60"], image=image) as box:
            (record,) = records(store)
            assert box.exec(["stat", "-c", "%a", "/open"], text=True).stdout == "1777\n"
            for root in (record, correction / "rootfs"):
                assert is_locked(root)
            pc.Image.get("tall:1").remove()
            elsewhere()
            assert box.exec(["ls", "/open"], text=True).stdout.split() == [f"n{number}" for number in range(1, TALL)]
            assert correction.exists()
        pc.Image.load(layout.path)
    assert not is_locked(record)


def is_locked(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def test_a_tall_image_has_one_record_and_a_low_one_none(tall: pc.Image, layout: Layout, store: Path) -> None:
    assert records(store) == []
    assert top(tall) == b"5"
    (record,) = records(store)
    names = [layer.partition(":")[2] for layer in tall.layers]
    text = record.read_text().splitlines()
    assert (text[2:-1], text[-1]) == (names, "end")
    before = record.stat()
    assert [top(tall) for _ in range(3)] == [b"5"] * 3
    assert record.stat() == before
    assert record.stat().st_mode & 0o777 == 0o600
    low = layout.image("low:1", [layouts.tar({"a": b"a"})])
    pc.Image.load(layout.path)
    with pytest.raises(pc.CommandNotFound):
        pc.run(["true"], image=pc.Image.get(f"low@{low}"))
    assert records(store) == [record]


def test_each_layer_stays_as_long_as_somebody_stands_on_the_stack(tall: pc.Image, store: Path) -> None:
    top(tall)  # writes the record, by which the next ones are held
    with pc.Container(["sleep", "1000"], image=tall) as first:
        with pc.Container(["sleep", "1000"], image=tall) as second:
            assert elsewhere() == "[]"
            tall.remove()
            elsewhere()
            assert second.exec(["cat", "/top"]).stdout == b"5"
        elsewhere()
        assert first.exec(["ls", "/n1", "/n5"]).returncode == 0
        assert len([path for path in (store / "layers").iterdir() if path.suffix != ".stack"]) == TALL
    assert elsewhere() == "[]"
    assert list((store / "layers").iterdir()) == []
    with pytest.raises(pc.ImageError):
        top(tall)


def test_another_process_may_stand_on_it(tall: pc.Image, store: Path) -> None:
    top(tall)
    code = (
        "import pycontainer as pc, sys\n"
        f"with pc.Container(['sleep', '1000'], image=pc.Image.get({tall.reference!r})):\n"
        "    print('up', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"up\n"
        assert pc.Image.prune() == []
        tall.remove()
        assert len(list((store / "layers").iterdir())) == TALL + 1
        other.stdin.close()
    pc.Image.prune()
    assert list((store / "layers").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"pycontainer-stack 1\n" + b"0" * 32 + b"\n", b"x" * 5000])
def test_a_record_that_says_nothing_is_written_again(tall: pc.Image, store: Path, content: bytes) -> None:
    top(tall)
    (record,) = records(store)
    good = record.read_bytes()
    record.write_bytes(content)
    code = f"import pycontainer as pc; print(pc.run(['cat', '/top'], image=pc.Image.get({tall.reference!r})).stdout)"
    for _ in range(2):
        assert elsewhere(code) == "b'5'"
    (record,) = records(store)
    assert record.read_bytes().splitlines()[2:] == good.splitlines()[2:] or len(content) < 30
    tall.remove()
    assert list((store / "layers").iterdir()) == []


@pytest.mark.parametrize("known", [True, False])
def test_a_layer_that_somebody_removed_by_hand_is_missed(tall: pc.Image, store: Path, known: bool) -> None:
    top(tall)
    if known:
        top(tall)
    shutil.rmtree(store / "layers" / tall.layers[2].partition(":")[2])
    with pytest.raises(pc.ImageError, match="a layer was removed meanwhile"):
        top(tall)


def test_a_layer_that_was_unpacked_again_is_seen(layout: Layout, tall: pc.Image, store: Path) -> None:
    """Under the same names lies another directory, of another inode."""
    assert top(tall) == top(tall) == b"5"
    tall.remove()
    elsewhere()
    (again,) = pc.Image.load(layout.path)
    assert again == tall
    assert top(again) == top(again) == b"5"


def test_a_forked_copy_has_locks_of_its_own(tall: pc.Image) -> None:
    top(tall)
    with pc.Container(["sleep", "1000"], image=tall) as container:
        pid = os.fork()
        if not pid:
            os._exit(0 if top(tall) == b"5" else 1)  # an exception ends it with another code: no test runs on
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert container.exec(["true"]).returncode == 0
