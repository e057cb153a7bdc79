"""What all tests share: requirements and skips, the small root file system, the watch for leaks, the probe."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import leaks as leak_watch
import pace
import ranges
import requirements
import rootfs as rootfs_builder
import skiplist
import tars
from programs.compiled import compiled
from pycontainer import Image

HERE = Path(__file__).parent
# With this one all containers on images are made: `nox -s drivers` runs what has to do with images once for each.
if DRIVER := os.environ.get("PYCONTAINER_TEST_DRIVER", ""):
    os.environ["PYCONTAINER_STORAGE_DRIVER"] = DRIVER
    if DRIVER == "btrfs":  # also the store of tests that have none of their own; each user's
        os.environ.setdefault("PYCONTAINER_ROOT", f"{requirements.scratch()}/store-{os.geteuid()}")
AT_ONCE = 4  # containers that a test in this interpreter has at one time; those with more run in another
# One core of an emulated kernel is twenty times slower than what hypothesis takes for normal.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
WATCHED = {"images", "build", "native", "integration", "privileged", "hostile", "faults", "reliability"}
STRICT = os.environ.get("CI") == "true" or os.environ.get("PYCONTAINER_STRICT_SKIPS") == "1"
SKIPS: pytest.StashKey[dict[str, str]] = pytest.StashKey()
RAN: pytest.StashKey[set[str]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="a tenth of the repetitions, with the same assertions")


def pytest_configure(config: pytest.Config) -> None:
    # A shell without job control starts what it puts into the background with SIGINT ignored, and so would be all that
    # is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Likewise nohup with SIGHUP: what a test sends would be for nobody.
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    config.stash[SKIPS], config.stash[RAN] = {}, set()
    skiplist.parse(skiplist.LIST.read_text())  # a bad line is found before an hour of tests, not after


def pytest_report_header(config: pytest.Config) -> str:
    strict = "an unlisted skip fails" if STRICT else "skips are free"
    driver = f", driver {DRIVER}" if DRIVER else ""
    return f"run: {requirements.kind()}, Linux {os.uname().release}{driver}, {strict}"


# ---- requirements and skips --------------------------------------------------------------------------------------


def required(item: pytest.Item) -> list[str]:
    return [word for marker in item.iter_markers("requires") for word in marker.args]


def reason_to_skip(item: pytest.Item) -> str | None:
    for word in required(item):
        try:
            why = requirements.missing(word)
        except LookupError as error:
            raise pytest.UsageError(f"{item.nodeid}: {error.args[0]}") from None
        if why is not None:
            return f"requires {word}: {why}"
    return None


@pytest.hookimpl(trylast=True)  # of the cases that -m and -k leave, not of all
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Who runs it is part of those that name root or a user: no other run has them.
    ours = [item.nodeid for item in items if pace.is_ours(item.nodeid) or {"root", "user"}.intersection(required(item))]
    kept = pace.thinned(ours)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
    items[:] = [item for item in items if item.nodeid in kept]
    for item in items:
        if why := reason_to_skip(item):
            item.add_marker(pytest.mark.skip(reason=why))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What lives now, the tests themselves, lives until the end: the watch for leaks, which collects after each test,
    took a quarter of a second each time to look through it, and seconds on an emulated kernel."""
    gc.collect()
    gc.freeze()


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    where = report.longrepr
    return str(where[2] if isinstance(where, tuple) else where).removeprefix("Skipped: ")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        item.config.stash[SKIPS][item.nodeid] = reason_of(report)
    elif report.when == "call":
        item.config.stash[RAN].add(item.nodeid)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """A module that skips itself (importorskip) is a skip like any other."""
    report: pytest.CollectReport = yield
    if report.skipped:
        collector.config.stash[SKIPS][collector.nodeid] = reason_of(report)
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if STRICT and exitstatus == pytest.ExitCode.OK and unlisted(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def unlisted(config: pytest.Config) -> dict[str, str]:
    entries = skiplist.parse(skiplist.LIST.read_text())
    return skiplist.unlisted(entries, requirements.kind(), config.stash[SKIPS])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ran, skipped = config.stash[RAN], config.stash[SKIPS]
    terminalreporter.write_line(f"{requirements.kind()}: {len(ran)} run, {len(skipped)} skipped")
    surprises = unlisted(config)
    if not surprises:
        return
    verdict = "FAILED" if STRICT else "would fail in CI"
    terminalreporter.write_line(f"{verdict}: {len(surprises)} skips are not listed in tests/{skiplist.LIST.name}:")
    for test, why in sorted(surprises.items()):
        terminalreporter.write_line(f"  {requirements.kind()} {test}  {why}")


# ---- fixtures ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A directory on a real file system that everyone may pass through, gone at the end."""
    path = Path(tempfile.mkdtemp(prefix="pycontainer-test-", dir=requirements.scratch()))
    path.chmod(0o755)
    yield path
    ranges.remove(path)


@pytest.fixture(scope="session")
def rootfs(scratch: Path) -> Path:
    """A directory image: bin/busybox and its applets, empty proc sys dev tmp etc; treat it as read-only."""
    return rootfs_builder.build(scratch / "rootfs")


@pytest.fixture
def store(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store of the test's own, and no time that is the latest."""
    path = Path(tempfile.mkdtemp(prefix="store-", dir=scratch))
    monkeypatch.setenv("PYCONTAINER_ROOT", str(path))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    yield path
    ranges.remove(path)


@pytest.fixture
def base(rootfs: Path, store: Path) -> Image:
    """An image of one layer in `store`: `rootfs` with a few files in /data."""
    script = """
    mkdir -p /data/replaced /data/dir /data/kept; echo old > /data/replaced/old; echo same > /data/replaced/same
    for name in file gone mode dir/x kept/far; do echo x > /data/$name; done
    """
    with tars.ran(rootfs, script) as made:
        return made.commit("base:1")


@pytest.fixture
def fresh_rootfs(rootfs: Path, scratch: Path) -> Iterator[Path]:
    """A copy of `rootfs` that the test may change."""
    path = Path(tempfile.mkdtemp(prefix="rootfs-", dir=scratch))
    yield shutil.copytree(rootfs, path, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def probe(scratch: Path) -> Path:
    """The program of tests/probe, static: it runs inside and prints as JSON what it sees there."""
    if built := os.environ.get("PYCONTAINER_PROBE"):
        return Path(built)
    return compiled(HERE / "probe/probe.c", scratch / "probe")


@pytest.fixture(scope="session")
def warm_engine(rootfs: Path, scratch: Path) -> None:
    """Before the first snapshot: keeper, socket and what Image.host() keeps live as long as this interpreter.

    So do the ids of as many containers as were there at once.
    """
    import pycontainer

    pycontainer.run(["/bin/true"], image=rootfs)
    pycontainer.run(["/bin/true"])
    if os.geteuid() == 0:
        with contextlib.ExitStack() as stack:
            for _ in range(AT_ONCE):
                stack.enter_context(pycontainer.Container(["/bin/sleep", "1000"], image=rootfs))
    else:
        warm_steward(scratch)


def warm_steward(scratch: Path) -> None:
    """Who gives a plain user's files their owners lives as long as the keeper, from the first such file on."""
    from pycontainer._native import core

    with tempfile.TemporaryDirectory(dir=scratch) as place, pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYCONTAINER_ROOT", f"{place}/store")
        member = tarfile.TarInfo("owned")
        member.uid = 1
        with tarfile.open(f"{place}/owned.tar", "w") as archive:
            archive.addfile(member)
        core().unpack_archive(f"{place}/owned.tar".encode())


@pytest.fixture
def leaks(warm_engine: None) -> Iterator[None]:
    """After the test nothing of a container is left; automatic in the directories that start containers."""
    before = leak_watch.take()
    yield
    if rows := leak_watch.left_since(before):
        pytest.fail("left behind by this test:\n  " + "\n  ".join(rows))


@pytest.fixture(autouse=True)
def leaks_where_containers_start(request: pytest.FixtureRequest) -> None:
    relative = request.path.relative_to(HERE).parts if request.path.is_relative_to(HERE) else ()
    if relative and relative[0] in WATCHED and not request.node.get_closest_marker("leaks_by_design"):
        request.getfixturevalue("leaks")


@pytest.fixture
def times(request: pytest.FixtureRequest) -> Callable[[int], range]:
    """range(n), with --quick a tenth of it: the repetitions of a reliability test."""
    quick = request.config.getoption("--quick")
    return lambda n: pace.repetitions(n, quick)
