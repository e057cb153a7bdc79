"""The tooling's own tests: skips by name, the sum of the runners, the examples of the pages, the watch for leaks."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

import against_docker
import apart
import doc_examples
import guests
import junit
import leaks
import machine
import pace
import requirements
import skiplist
import vm


def test_list_of_skips_names_kind_test_needs_and_reason():
    entries = skiplist.parse("# a comment\n\nuser-* tests/a.py::test_x[a-1] subuid,root  no subuid range\n")
    assert entries == [skiplist.Entry(("user-*",), "tests/a.py::test_x[a-1]", ("subuid", "root"), "no subuid range")]
    with pytest.raises(ValueError, match=r"skips\.txt:1: expected KINDS TEST NEEDS reason"):
        skiplist.parse("user-* tests/a.py::test_x root\n")


@pytest.mark.parametrize(
    ("kind", "test", "why", "covered"),
    [
        ("user-hybrid", "tests/a.py::test_x[a-1]", "requires root: runs as a plain user", True),
        ("user-v2", "tests/a.py::test_x[a-1]", "requires root: whatever it says", True),
        ("root-v2", "tests/a.py::test_x[a-1]", "requires root: runs as a plain user", False),
        ("user-v2", "tests/a.py::test_x[b-1]", "requires root: runs as a plain user", False),  # no character class
        ("user-v2", "tests/b.py::test_anything", "requires loop: no", True),
        ("user-v2", "tests/b.py::test_anything", "requires cgroup2:io: no", True),
        # In a file that is listed, for another cause: what a new requirement takes away is seen.
        ("user-hybrid", "tests/a.py::test_x[a-1]", "requires program:strace: strace is not installed", False),
        ("user-v2", "tests/b.py::test_anything", "requires cgroup1:io: no", False),
        ("user-v2", "tests/b.py::test_anything", "requires root: no", False),
        # One that skips itself says no requirement.
        ("user-v2", "tests/b.py::test_anything", "could not import 'loop': requires loop: no", False),
    ],
)
def test_a_skip_is_listed_by_kind_name_and_requirement(kind, test, why, covered):
    entries = skiplist.parse(
        "user-*,delegated-v2 tests/a.py::test_x[a-1] root  why\nuser-v2 tests/b.py::* loop,cgroup2:*  why\n"
    )
    assert (skiplist.unlisted(entries, kind, {test: why}) == {}) is covered


def test_the_list_of_this_checkout_can_be_read_and_names_requirements():
    for entry in skiplist.parse(skiplist.LIST.read_text()):
        assert all(requirements.known(word) for word in entry.needs), entry


@pytest.mark.parametrize(
    ("quick", "slower", "most", "count"),
    [(False, 1, 0, 300), (True, 1, 0, 30), (False, 5, 0, 300), (True, 5, 0, 30), (True, 5, 6, 6)],
)
def test_quick_is_a_tenth_where_each_is_slow_too(monkeypatch, quick, slower, most, count):
    monkeypatch.setattr(pace, "PACE", slower)
    monkeypatch.setattr(pace, "MOST", most)
    assert pace.repetitions(300, quick) == range(count)
    assert pace.repetitions(3, quick) == range(1 if quick else 3)


@pytest.mark.parametrize(("strict", "status"), [("1", 1), ("0", 0)])
def test_an_unlisted_skip_fails_a_strict_run(tmp_path, strict, status):
    page = tmp_path / "test_one.py"
    mark = "import pytest\n@pytest.mark.requires('path:/nonexistent')\n"
    page.write_text(f"{mark}def test_x(): pass\ndef test_y(): pass\n")
    done = nested_pytest(page, PYCONTAINER_STRICT_SKIPS=strict)
    assert done.returncode == status, done.stdout
    assert "1 passed, 1 skipped" in done.stdout
    assert "test_x  requires path:/nonexistent: /nonexistent does not exist" in done.stdout


def test_an_unknown_requirement_stops_the_run(tmp_path):
    page = tmp_path / "test_one.py"
    page.write_text("import pytest\n@pytest.mark.requires('moon')\ndef test_x(): pass\n")
    done = nested_pytest(page)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "unknown requirement 'moon'" in done.stdout + done.stderr


def nested_pytest(page, **environ):
    """pytest on one page outside of the checkout, with this checkout's conftest."""
    plain = {name: value for name, value in os.environ.items() if name not in {"CI", "PYCONTAINER_STRICT_SKIPS"}}
    here = os.path.dirname(requirements.__file__)
    argv = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider"]
    places = os.pathsep.join([here, f"{here}/../tools"])
    return subprocess.run(
        [*argv, "-c", f"{here}/../pyproject.toml", "--rootdir", str(page.parent), "--noconftest", str(page)],
        check=False, capture_output=True, text=True, cwd=page.parent, env=plain | {"PYTHONPATH": places} | environ,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("word", "held"),
    [("kernel>=3.0", True), ("kernel>=99.1", False), ("kernel<99", True), ("program:sh", True), ("path:/nope", False)],
)
def test_requirements_with_an_argument(word, held):
    assert (requirements.missing(word) is None) is held


@pytest.mark.parametrize("word", ["", "moon", "cap:", "cap:CAP_MOON", "kernel>=x", "kernel==5", "program:"])
def test_unknown_requirements_are_refused(word):
    with pytest.raises(LookupError):
        requirements.missing(word)


def test_either_root_or_user():
    assert (requirements.missing("root") is None) != (requirements.missing("user") is None)


def test_in_child_tells_what_the_child_raised():
    def fails():
        raise RuntimeError("the reason")

    assert machine.in_child(lambda: None) is None
    assert machine.in_child(fails) == "the reason"
    assert machine.in_child(lambda: os.kill(os.getpid(), 9)) == "the probe ended with -9"


def test_counts_of_junit_files_are_by_case(tmp_path):
    text = (
        '<testsuites><testsuite tests="9"><testcase name="a"/><testcase name="b"><failure/></testcase>'
        '<testcase name="c"><skipped/></testcase><testcase name="d"><error/></testcase></testsuite></testsuites>'
    )
    assert str(junit.count(text)) == "1 passed, 2 failed, 1 skipped"
    path = tmp_path / "made.xml"
    junit.write(path, "made", {"a": None, "b": "why"}, {"c": "no reason"})
    assert str(junit.count(path.read_text())) == "1 passed, 1 failed, 1 skipped"


@pytest.mark.parametrize(
    ("results", "status", "code", "line"),
    [
        ({"a": None}, 0, 0, "1 passed, 0 failed, 0 skipped"),
        ({"a": None, "b": "why"}, 1, 1, "1 passed, 1 failed, 0 skipped"),
        ({"a": None}, 1, 1, "1 passed, 1 failed, 0 skipped"),  # a session without tests failed
        ({}, 0, 1, "0 passed, 0 failed, 0 skipped"),
    ],
)
def test_closing_line(tmp_path, capsys, results, status, code, line):
    junit.write(tmp_path / "one.xml", "one", results)
    assert junit.main([str(tmp_path), str(status)]) == code
    assert capsys.readouterr().out.splitlines()[-1] == line


def test_what_failed_is_told_with_message_and_place(tmp_path, capsys):
    long = "&#10;".join(f"line {number}" for number in range(100))
    case = f'<testcase classname="tests.a" name="b[1]"><failure message="{long}">source\na.py:7: E</failure></testcase>'
    (tmp_path / "root.xml").write_text(f"<testsuite>{case}<testcase name='c'/></testsuite>")
    assert junit.main([str(tmp_path), "1"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["root: tests.a::b[1]", "    | line 0"]
    assert told[junit.TOLD : junit.TOLD + 2] == [f"    | line {junit.TOLD - 1}", "    | a.py:7: E"]
    assert len(told) == junit.TOLD + 4


PAGE = """# A page
```python
x = 1
```
```console
$ not python
```
<!-- no-run: needs a registry -->

```python
boom
```
- in a list:

  ```python
  assert x == 1
  ```

```python
raise SystemExit(3)
```
"""


def test_blocks_of_a_page():
    found = doc_examples.blocks("p.md", PAGE)
    assert [block.line for block in found] == [3, 11, 16, 20]
    assert [block.no_run for block in found] == [None, "needs a registry", None, None]
    assert found[2].code == "assert x == 1\n"


def test_a_failing_example_fails_and_names_its_line(tmp_path):
    (tmp_path / "p.md").write_text(PAGE)
    argv = [sys.executable, doc_examples.__file__, "--junit", str(tmp_path / "docs.xml"), str(tmp_path / "p.md")]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "p.md:20" in done.stdout
    assert done.stdout.splitlines()[-1] == "2 passed, 1 failed, 1 skipped"
    assert str(junit.count((tmp_path / "docs.xml").read_text())) == "2 passed, 1 failed, 1 skipped"


PRINTING = """# What is printed
```python
print("pid", 17)
print("end  ")
```
It says:
```
pid ...
end
```
As root:
```
uid 0
```

```sh
no output of this
```
```
nothing that is compared
```
```python
print("silence")
```
## Another matter
```
no output either
```
```python
print("x" * 3)
```
```
y...
```
```python
quiet = Path(__file__).name if (Path := __import__("pathlib").Path) else None
assert quiet == "p.md"
```
"""


def test_what_a_block_may_print_stands_below_it():
    found = doc_examples.blocks("p.md", PRINTING)
    assert [block.printed for block in found] == [("pid ...\nend\n", "uid 0\n"), (), ("y...\n",), ()]


def test_what_is_printed_is_compared(tmp_path):
    (tmp_path / "p.md").write_text(PRINTING)
    argv = [sys.executable, doc_examples.__file__, str(tmp_path / "p.md")]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "2 passed, 2 failed, 0 skipped"
    assert "p.md:23\nit prints, and the page does not say what:\nsilence\n" in done.stdout
    assert "p.md:30\nit printed:\nxxx\n\nand the page says:\ny...\n" in done.stdout


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        (["a\n"], "a  \n\n", True),
        (["a ... c\n"], "a b\nb c\n", True),
        (["a\n", "b\n"], "b\n", True),
        (["a\n"], "ab\n", False),
        (["a\n\nb\n"], "a\nb\n", False),
        (["a\n"], "", False),
        ([], "\n", True),
    ],
)
def test_dots_stand_for_anything_and_one_block_must_fit(expected, printed, same):
    assert (doc_examples.differs(tuple(expected), printed) is None) is same


def test_what_differs_in_the_same_way_stands_together():
    docker = {("mount", "/a"): "ro", ("mount", "/b"): "ro", ("path", "/a"): "file", ("status", "Seccomp"): "2"}
    ours = {("mount", "/a"): "rw", ("mount", "/b"): "rw", ("status", "Seccomp"): "2", ("mount", "/c"): "rw"}
    assert against_docker.printed(docker, ours) == [
        "| mount /a, /b | ro | rw |",
        "| path /a | file | not there |",
        "| mount /c | not there | rw |",
    ]


def test_each_difference_from_docker_is_explained():
    page = against_docker.ROOT / "docs/security.md"
    rows = [line for line in page.read_text().splitlines() if line.startswith(tuple(against_docker.of_page(page)))]
    assert len(rows) == len(against_docker.of_page(page)) > 20
    assert all(len(row.split(" | ")) == 4 and len(row.split(" | ")[3].strip(" |")) > 3 for row in rows)


def test_the_watch_sees_an_fd_and_a_child():
    before = leaks.take()
    assert leaks.left_since(before, settle=0) == []
    fd = os.open("/dev/null", os.O_RDONLY)
    child = subprocess.Popen(["sleep", "60"])
    try:
        rows = leaks.left_since(before, settle=0.1)
    finally:
        child.kill()
        child.wait()
        os.close(fd)
    assert f"children: child {child.pid}" in rows
    assert f"fds: fd {fd} -> /dev/null" in rows
    assert leaks.left_since(before) == []


@pytest.mark.requires("root")
def test_the_watch_sees_a_mount_and_a_contained_process(tmp_path):
    before = leaks.take()
    subprocess.run(["mount", "-t", "tmpfs", "leaktest", tmp_path], check=True)
    child = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "sleep", "60"])
    deadline = time.monotonic() + 10
    try:
        while not leaks.contained() - before.contained and time.monotonic() < deadline:
            time.sleep(0.01)
        rows = leaks.left_since(before, settle=0)
    finally:
        child.kill()
        child.wait()
        subprocess.run(["umount", tmp_path], check=True)
    assert f"mounts: {tmp_path} (tmpfs leaktest)" in rows
    assert any(row.startswith("contained: pid") for row in rows)
    assert leaks.left_since(before) == []


def test_a_session_in_a_hurry_takes_cases_from_end_to_end() -> None:
    tests = ["a.py::one", *(f"a.py::many[{n}]" for n in range(11)), "a.py::two[x]", "a.py::two[y]"]
    assert pace.thinned(tests, 0) == set(tests)
    assert sorted(pace.thinned(tests, 3)) == sorted(
        ["a.py::one", "a.py::many[0]", "a.py::many[5]", "a.py::many[10]", "a.py::two[x]", "a.py::two[y]"]
    )


def test_two_runs_divide_the_tests_and_leave_none() -> None:
    tests = [f"a.py::test_{n}" for n in range(100)]
    shares = [{test for test in tests if pace.is_ours(test, turns)} for turns in guests.TURNS.values()]
    assert set.union(*shares) == set(tests)
    assert sum(map(len, shares)) == len(tests)
    assert 10 < len(shares[0]) < 40
    assert all(pace.is_ours(test, "") for test in tests)
    assert len({pace.is_ours(f"a.py::test[{case}]", "0") for case in range(20)}) == 1, "cases stay together"


def test_an_emulated_machine_imports_only_the_files_with_its_tests() -> None:
    collected = "tests/a/test_x.py::test_one[a::b]\ntests/a/test_x.py::test_two\ntests/test_y.py::T::test\n\n3/9 tests"
    assert guests.narrowed(["-m", "vm", "tests", "--quick"], collected) == [
        "-m", "vm", "tests/a/test_x.py", "tests/test_y.py", "--quick",
    ]  # fmt: skip
    assert guests.narrowed(["tests/test_y.py"], collected) == ["tests/test_y.py"]


def test_lines_of_several_guests_bear_their_names() -> None:
    assert vm.labelled(b"one\ntwo\nth", "root") == (b"root| one\nroot| two\n", b"th")


@pytest.mark.requires("root")
def test_a_run_apart_has_its_own_processes_and_its_lines_a_label(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    script = "echo $$; ls /proc | grep -c '^[0-9]*$'; (sleep 0.01 &) ; printf end; exit 3"
    assert apart.main("who", ["sh", "-c", script]) == 3
    first, processes, last = capfdbinary.readouterr().out.splitlines()
    assert first == b"who| 2"
    assert int(processes.removeprefix(b"who| ")) <= 5, "the machine's are not there"
    assert last == b"who| end"
