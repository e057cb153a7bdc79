"""The one list of commands: `nox -l` shows it, CI runs its default sessions, README's second command is the same.

Each session leaves its tests' results in dist/junit. One wheel is built per state of the sources, and used by all.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent / "tools"))
import guests
import house
import junit
import vm as machine
from sessions import (
    IS_ROOT,
    MATURIN,
    cargo_environment,
    create_user,
    options_of,
    run_apart,
    run_staged,
    staged,
    system_packages,
    wheel,
)

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True
# What CI runs; `reliability` and `vm` in their quick form there, which ./check asks for by PYCONTAINER_QUICK=1. It runs
# those that only compile beside those that make containers.
nox.options.sessions = ["lint", "rust", "cross", "fuzz", "tests", "docs", "reliability", "vm"]

TYPED = ("noxfile.py", "tools", "benchmarks")
DRIVERS = ("overlay", "fuse-overlayfs", "vfs", "btrfs")
DRIVER_TESTS = (
    "tests/images", "tests/build", "tests/integration/test_commit.py", "tests/integration/test_export.py",
    "tests/integration/test_container_diff.py", "tests/integration/test_copies.py",
    "tests/integration/test_container_files.py", "tests/integration/test_container_files_refusals.py",
    "tests/integration/test_image.py", "tests/hostile/test_layers.py", "tests/hostile/test_layer_store.py",
    "tests/hostile/test_layer_removal.py", "tests/hostile/test_commit_races.py",
    "tests/hostile/test_container_files_races.py", "tests/hostile/test_overlay_attributes.py",
)  # fmt: skip
RELIABILITY_PYTEST = ("-s", "--timeout=3600")


# ---- sessions ----------------------------------------------------------------------------------------------------


@nox.session(tags=["compiles"])
def lint(session: nox.Session) -> None:
    """Format, clippy, ruff, types of both languages' sides of the boundary."""
    session.install("ruff>=0.14", "mypy>=1.18", "nox", *house.TEST_PACKAGES)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("cargo", "fmt", "--all", "--check", external=True)
    clippy = ("cargo", "clippy", "--all-targets", "--all-features", "--", "-D", "warnings")
    session.run(*clippy, external=True, env=cargo_environment())
    lint_keeper(session)
    session.run("mypy", "--strict")
    session.run("mypy", "--strict", *TYPED, env={"MYPYPATH": "tools:benchmarks:tests:python"})
    session.install("--force-reinstall", "--no-deps", str(wheel(session)))
    with session.chdir(session.create_tmp()):  # away from the sources: the installed stub and module are compared
        session.run("python", "-m", "mypy.stubtest", "pycontainer._core")


def lint_keeper(session: nox.Session) -> None:
    """The keeper is no target of cargo's: clippy's driver is called as build.rs calls rustc."""
    sysroot = str(session.run("rustc", "--print", "sysroot", external=True, silent=True)).strip()
    session.run(
        "clippy-driver", "--edition", "2024", "--crate-name", "pycontainer_keeper", "--crate-type", "bin",
        "--cfg", "keeper", "--check-cfg", "cfg(keeper)", "--check-cfg", "cfg(test_seams)", "-C", "panic=abort",
        "-D", "warnings", "-D", "clippy::undocumented_unsafe_blocks", "-D", "unsafe_op_in_unsafe_fn",
        "--emit", "metadata", "-o", f"{session.create_tmp()}/keeper.rmeta", "rust/keeper/main.rs",
        external=True, env={"LD_LIBRARY_PATH": f"{sysroot}/lib"},
    )  # fmt: skip
    session.run("rustfmt", "--check", "--edition", "2024", "rust/keeper/main.rs", external=True)


@nox.session(tags=["contains"])
def rust(session: nox.Session) -> None:
    """The Rust tests: by nextest where it is installed, else by cargo; then the examples in the documentation."""
    words = session.posargs
    system_packages(session, "rust")
    if shutil.which("cargo-nextest"):
        target = Path(os.environ.get("CARGO_TARGET_DIR", house.ROOT / "target"))
        produced = target / "nextest/default/junit.xml"
        produced.unlink(missing_ok=True)
        config = f"--tool-config-file=pycontainer:{house.ROOT / 'tools/nextest.toml'}"
        try:
            session.run("cargo", "nextest", "run", config, *words, external=True, env=cargo_environment())
        finally:
            house.JUNIT.mkdir(parents=True, exist_ok=True)
            if produced.exists():
                shutil.copyfile(produced, house.JUNIT / "rust.xml")
    else:
        cargo_test(session, "rust", "--lib", "--tests", *words)
    cargo_test(session, "rust-doc", "--doc")


def cargo_test(session: nox.Session, name: str, *words: str) -> None:
    """cargo's own runner has no report: count its `test NAME ... ok` lines."""
    command = ("cargo", "test", *words)
    output = session.run(*command, external=True, silent=True, success_codes=[0, 101], env=cargo_environment())
    print(output)
    lines = re.findall(r"^test (.+) \.\.\. (ok|FAILED|ignored)", str(output), re.MULTILINE)
    results = {test: None if state == "ok" else "FAILED" for test, state in lines if state != "ignored"}
    ignored = {test: "ignored" for test, state in lines if state == "ignored"}
    junit.write(house.JUNIT / f"{name}.xml", name, results, ignored)
    if any(results.values()) or re.search(r"^error", str(output), re.MULTILINE):
        session.error(f"cargo test {' '.join(words)} failed")


@nox.session(tags=["compiles"])
def cross(session: nox.Session) -> None:
    """cargo check for aarch64, and the helper under emulation; skipped where Debian's compiler is not to be had."""
    if platform.machine() != "x86_64":
        session.skip("this machine's own architecture is the other one")
    system_packages(session, "cross")
    command = (sys.executable, "tools/cross.py", str(Path(session.cache_dir) / "cross"))
    output = session.run(*command, external=True, success_codes=[0, 77], silent=True)
    print(output)
    if "cross.py: " in str(output):
        session.skip(str(output).strip().splitlines()[-1])


@nox.session(tags=["compiles"])
def fuzz(session: nox.Session) -> None:
    """Coverage-guided fuzzing of what reads others' bytes; ten minutes a target, or with --quick ten seconds."""
    quick, words = options_of(session)
    if sys.version_info >= (3, 14):
        session.skip("atheris has no wheel for this Python")
    system_packages(session, "fuzz")
    session.install("atheris>=2.3")
    session.install("--force-reinstall", "--no-deps", str(wheel(session)))
    seconds = ["--seconds", "10" if quick else "600"]
    session.run("python", "tools/fuzz.py", *seconds, *words, env=cargo_environment())


@nox.session(tags=["contains"])
def tests(session: nox.Session) -> None:
    """The Python tests, as root and as a plain user that the session creates; as a plain user only as that one."""
    quick, words = options_of(session)
    words += ["--quick"] if quick else []
    system_packages(session, "tests", "services")
    built = wheel(session, "test-seams")
    if IS_ROOT:
        root = staged(session, house.Stage("root"), sys.executable, built)
        python = create_user(session)
        create_user(session, house.OTHER_USER)
        user = staged(session, house.Stage("user", house.OTHER_USER), python, built)
        command = house.as_user(house.pytest_command(user, *words), house.OTHER_USER, **house.passed_on())
        runs = {"root": (root, house.pytest_command(root, *words)), "user": (user, command)}
        # At one time: they wait more than they work. Neither sees the containers of the other.
        with ThreadPoolExecutor() as both:
            names = both.map(lambda who: run_apart(session, who, *runs[who]), runs)
        failed = [name for some in names for name in some]
    else:
        stage = staged(session, house.Stage("user"), sys.executable, built)
        failed = run_staged(session, stage, "tests-user", house.pytest_command(stage, *words))
        session.warn("not root: the tests ran as this user only")
    if failed:
        session.error(f"failed: {', '.join(failed)}")


@nox.session(default=False)
def drivers(session: nox.Session) -> None:
    """What has to do with images, on each storage driver, as root and as the tests' plain user. Words are pytest's."""
    quick, words = options_of(session)
    words = [*(words or DRIVER_TESTS), *(["--quick"] if quick else [])]
    system_packages(session, "tests")
    built = wheel(session, "test-seams")
    stages = [(staged(session, house.Stage("drivers"), sys.executable, built), False)] if IS_ROOT else []
    python = create_user(session) if IS_ROOT else sys.executable
    owned = house.Stage("drivers-user", house.USER if IS_ROOT else None)
    stages.append((staged(session, owned, python, built), IS_ROOT))
    failed = []
    for driver in DRIVERS if IS_ROOT else DRIVERS[:3]:
        os.environ["PYCONTAINER_TEST_DRIVER"] = driver
        with house.scratch_of(driver):
            for stage, as_other in stages:
                command = house.pytest_command(stage, *words)
                command = house.as_user(command, **house.passed_on()) if as_other else command
                failed += run_staged(session, stage, f"drivers-{driver}-{stage.name}", command)
    if failed:
        session.error(f"failed: {', '.join(failed)}")


@nox.session(tags=["contains"])
def vm(session: nox.Session) -> None:
    """The tests on Linux 6.1 with cgroup2 alone, emulated: as root, and at the same time as a plain user with a group.

    --quick: those marked `vm`, wherever they lie, with six repetitions at most and one case of each, each test by one
    of the two unless it names root or a user; else all of them by both, and what else `tests` runs with a tenth. Other
    words are pytest's: a file's tests, by both, with all repetitions unless --quick.
    """
    quick, words = options_of(session)
    if not IS_ROOT:
        session.skip("needs root: qemu serves this machine's root file system")
    if platform.machine() != "x86_64":
        session.skip("the emulated machine runs this one's programs, and is an x86_64")
    system_packages(session, "tests", "vm")
    session.install("virtme-ng>=1.42")
    python = create_user(session)  # for root too: one stage for both machines
    stage = staged(session, house.Stage("vm", house.USER), python, wheel(session, "test-seams"))
    named = any(Path(word.partition("::")[0]).exists() for word in words)
    parts = guests.parts(quick, named, words)
    # Collects the tests here, where it takes seconds: that compiles them, finds a broken one before the boot, and tells
    # which files there is something in.
    with session.chdir(stage.checkout):
        for part, chosen in parts.items():
            command = (str(stage.python), "-m", "pytest", "-q", "--collect-only", *chosen)
            parts[part] = guests.narrowed(chosen, str(session.run(*command, external=True, silent=True)))
    with ThreadPoolExecutor() as both:  # each has a kernel of its own, so neither sees what the other one does
        codes = both.map(lambda who: guest(session, stage, who, parts, quick, named), ("root", "user"))
        if any(list(codes)):
            session.error("failed in an emulated machine")


def guest(
    session: nox.Session, stage: house.Stage, who: str, parts: dict[str, list[str]], quick: bool, named: bool
) -> int:
    """Boot a machine of its own, and run the parts there as `who`; the exit code."""
    image = machine.image(stage.path, stage.path.with_name(f"vm-{who}.img"))
    results = stage.path.with_name(f"vm-{who}-results")
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir()
    script = guests.script(stage, results, who, parts, quick, named)
    try:
        session.run(
            "python", "tools/vm.py", "--disk", str(image), "--at", str(stage.path), "--results", str(results),
            "--label", who, "--timeout", str(guests.seconds(quick)), "--", "sh", str(script),
        )  # fmt: skip
    except nox.command.CommandFailed:
        return 1
    finally:
        image.unlink()
        house.JUNIT.mkdir(parents=True, exist_ok=True)
        for found in results.glob("vm-*.xml"):
            shutil.copyfile(found, house.JUNIT / found.name)
    return 0


@nox.session(tags=["contains"])
def docs(session: nox.Session) -> None:
    """Run the Python examples of the pages and compare what they print; as root, and as the tests' plain user too."""
    system_packages(session, "services")
    built = wheel(session)
    here = house.Stage("docs-root" if IS_ROOT else "docs-user")
    failed = run_pages(session, staged(session, here, sys.executable, built, house.PAGE_PACKAGES), [])
    if IS_ROOT:
        owned = house.Stage("docs-user", house.USER)
        stage = staged(session, owned, create_user(session), built, house.PAGE_PACKAGES)
        failed += run_pages(session, stage, house.as_user([]))
    if failed:
        session.error(f"failed: {', '.join(failed)}")


def run_pages(session: nox.Session, stage: house.Stage, as_user: list[str]) -> list[str]:
    """doc_examples.py in the staged checkout, as pytest would be run there."""
    pages = ["README.md", "examples/README.md", *sorted(str(path) for path in Path("docs").glob("*.md"))]
    if not (any(Path("/usr/lib/postgresql").glob("*/bin/postgres")) and shutil.which("redis-server")):
        pages.remove("docs/service.md")
        session.warn("docs/service.md is passed over: this machine lacks PostgreSQL or Redis")
    report = ["--junit", str(stage.results / "junit.xml"), "--suite", stage.name]
    command = [*as_user, str(stage.python), "tools/doc_examples.py", *report, *pages]
    return run_staged(session, stage, stage.name, command)


@nox.session(tags=["contains"])
def reliability(session: nox.Session) -> None:
    """Thousands of runs, kills at random times, floods and bombs; prints its counts. --quick: a tenth of them.

    As root then a tenth of them as a plain user too, in a group that is delegated to that one, and tests/faults, which
    want such a group.
    """
    quick, words = options_of(session)
    system_packages(session, "tests")
    built = wheel(session)
    stage = staged(session, house.Stage("reliability"), sys.executable, built)
    command = house.pytest_command(
        stage, *(words or ["tests/reliability", *RELIABILITY_PYTEST]), *(["--quick"] if quick else [])
    )
    failed = run_staged(session, stage, "reliability", command)
    if IS_ROOT:
        stage = staged(session, house.Stage("reliability-user", house.USER), create_user(session), built)
        words = words or ["tests/reliability", "tests/faults", *RELIABILITY_PYTEST]
        environ = [f"{name}={value}" for name, value in house.passed_on().items()]
        command = [sys.executable, "tools/delegate.py", house.USER, *environ, "--"]
        command += house.pytest_command(stage, *words, "--quick")
        failed += run_staged(session, stage, "reliability-user", command)
    if failed:
        session.error(f"failed: {', '.join(failed)}")


@nox.session
def bench(session: nox.Session) -> None:
    """The figures beside the bare system calls and the peers, in one run; its words are those of benchmarks/run.py."""
    system_packages(session, "bench")
    built = wheel(session)
    session.install("--force-reinstall", "--no-deps", str(built))
    session.install("docker")  # for a figure beside its exec_run
    words = list(session.posargs)
    if IS_ROOT:
        stage = staged(session, house.Stage("bench"), create_user(session), built)
        words += ["--rootless", f"{house.USER}:{stage.python}"]
    session.run("python", "benchmarks/run.py", *words)


@nox.session(default=False)
def docker(session: nox.Session) -> None:
    """tests/probe in `docker run` and in run(): what differs is what docs/security.md says (Debian 12's docker)."""
    if not IS_ROOT:
        session.skip("needs root: it may have to start a docker daemon")
    system_packages(session, "tests", "bench")
    session.install("--force-reinstall", "--no-deps", str(wheel(session)))
    session.run("python", "tools/against_docker.py", "--page", "docs/security.md")


@nox.session(default=False)
def builders(session: nox.Session) -> None:
    """The corpus of Dockerfiles by docker, buildah and Image.build: what differs is what docs/dockerfile.md says."""
    if not IS_ROOT:
        session.skip("needs root: it may have to start a docker daemon, and files have owners")
    system_packages(session, "tests", "bench", "builders")
    session.install("--force-reinstall", "--no-deps", str(wheel(session)))
    session.run("python", "tools/against_builders.py", "--page", "docs/dockerfile.md", *session.posargs)


@nox.session(default=False)
def local(session: nox.Session) -> None:
    """The inner loop: ruff, a debug build, the tests that need no container."""
    session.install(MATURIN, "ruff>=0.14", *house.TEST_PACKAGES)
    session.run("ruff", "check", "--fix", ".")
    session.run("ruff", "format", ".")
    session.run("maturin", "develop", "--features", "test-seams")
    session.run("pytest", *(session.posargs or ["tests/unit", "tests/property"]))
