"""doctor(): every guarantee of Result.enforced, tried for real on this machine. Leaves nothing, never raises."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from pycontainer._causes import CAUSES, find, too_old
from pycontainer._errors import CommandNotFound, Error, NotSupported, SetupError
from pycontainer._limits import Limits
from pycontainer._mounts import Mount
from pycontainer._native import core
from pycontainer._result import Guarantee, Reason
from pycontainer._run import run
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TextIO

    from pycontainer._result import Result

# Rows that a default run shows, in the order of Result.enforced.
OF_A_RUN = (
    "namespace:cgroup", "namespace:ipc", "namespace:mnt", "namespace:net", "namespace:pid", "namespace:time",
    "namespace:user", "namespace:uts", "user_namespace", "capabilities", "no_new_privileges", "seccomp", "landlock",
    "root", "masked_paths", "upper",
)  # fmt: skip
OF_GROUPS = (
    "memory", "swap", "memory_high", "oom_group", "cpus", "cpu_weight", "cpuset", "cpu_time", "pids", "io", "io_weight",
    "kill", "freeze", "pressure",
)  # fmt: skip
PATIENCE = 20  # seconds; a broken machine must not hang its diagnosis
_DRIVER = "PYCONTAINER_STORAGE_DRIVER"
_CURES_OF_DRIVERS = f"a kernel with overlay, a store on ext4, xfs or btrfs (PYCONTAINER_ROOT), and no {_DRIVER}"
_ERRNO_WORDS = {1: "EPERM", 13: "EACCES", 38: "ENOSYS"}


class Report(Mapping[str, Guarantee]):
    """What doctor() found: a read-only mapping of names to guarantees, in a fixed order."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Iterable[Guarantee]) -> None:
        self._rows = {row.name: row for row in rows}

    def __getitem__(self, key: str) -> Guarantee:
        return self._rows[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        count = {
            state: sum(row.state == state for row in self._rows.values()) for state in ("held", "degraded", "missing")
        }
        bad = ", ".join(name for name, row in self._rows.items() if row.state == "missing")
        summary = ", ".join(f"{number} {state}" for state, number in count.items())
        return f"<Report: {summary}{bad and ': '}{bad}>"

    def __reduce__(self) -> tuple[object, ...]:
        return Report, (tuple(self._rows.values()),)

    def to_dict(self) -> dict[str, dict[str, str]]:
        """Return {name: {"state", "by", "why", "fix"}}, as JSON can carry it."""
        return {
            name: {"state": row.state, "by": row.by, "why": row.why, "fix": row.fix} for name, row in self._rows.items()
        }

    def print(self, file: TextIO | None = None) -> None:
        """Print an aligned table, what holds each guarantee or why it is not held, then each cure with its rows.

        Args:
            file: where to; None is sys.stdout.
        """
        wide = max((len(name) for name in self._rows), default=0)
        for name, row in self._rows.items():
            about = "; ".join(part for part in (row.by, row.why) if part)
            print(f"{name:{wide}}  {row.state:8}  {about}".rstrip(), file=file)
        for fix in dict.fromkeys(row.fix for row in self._rows.values() if row.fix):
            names = ", ".join(name for name, row in self._rows.items() if row.fix == fix)
            print(f"\n{names}:\n    {fix}", file=file)


def doctor() -> Report:
    """Try every guarantee of this engine on this machine, for this process, with real containers and real groups.

    It takes some tens of milliseconds per container. Nothing is left behind.

    Returns:
        A Report: names as in `Result.enforced`, and some of the machine (keeper, system_calls, subuid, ...). Each row
        is held, degraded or missing, with the cause and the command that cures it.

    A machine that can hold nothing is a report too, never an exception.
    """
    return Report(_rows())


def _rows() -> Iterator[Guarantee]:
    try:
        native = core()
    except NotSupported as error:
        yield from (_missing(name, (error.cause, error.fix)) for name in _all_names())
        return
    plain = _Trial(_true())
    facts = native.probe_host()
    yield from _of_a_run(plain, facts)
    yield _system_calls(facts)
    yield _keeper(plain, facts)
    yield _subuid(plain, facts)
    yield _idmapped_mounts(plain, facts)
    yield _storage(plain)
    for name, probe in _PROBES.items():
        yield _missing(name, plain.cause) if plain.cause else probe(name)
    yield from _of_groups(plain, native)
    yield _cgroup(plain)
    yield _row("cap_sys_resource", facts["sys_resource"], "setrlimit", CAUSES["no_sys_resource"])


def _all_names() -> tuple[str, ...]:
    machine = ("system_calls", "keeper", "subuid", "idmapped_mounts", "storage")
    return (*OF_A_RUN, *machine, *_PROBES, *OF_GROUPS, "cgroup", "cap_sys_resource")


def _row(name: str, held: bool, by: str, cause: tuple[str, str]) -> Guarantee:
    return Guarantee(name, "held", by) if held else _missing(name, cause)


def _missing(name: str, cause: tuple[str, str]) -> Guarantee:
    return Guarantee(name, "missing", "", *cause)


# ---- containers --------------------------------------------------------------------------------------------------


class _Trial:
    """One container of this machine's own programs: its Result, or the cause why there is none."""

    def __init__(self, args: list[str], **options: Any) -> None:
        self.result: Result[str] | None = None
        self.cause: tuple[str, str] | None = None
        self.error: BaseException | None = None
        options.setdefault("timeout", PATIENCE)
        try:
            self.result = run(args, text=True, **options)
        except (Error, OSError, ValueError) as error:  # ValueError: a limit beyond a tiny machine
            self.error = error
            self.cause = _cause_of(error)


def _cause_of(error: BaseException) -> tuple[str, str]:
    text = str(error)
    if isinstance(error, NotSupported):
        return error.cause or text, error.fix
    if isinstance(error, SetupError) and (known := find(text)):
        step = f"{error.step}: " if error.step else ""
        return f"{step}{known[0]}", known[1]
    return text.splitlines()[0], ""


def _true() -> list[str]:
    """A program that does nothing and is surely in Image.host()."""
    for path in ("/bin/true", "/usr/bin/true"):
        if os.path.exists(path):
            return [path]
    return [sys.executable, "-c", ""]


def _shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def _of_a_run(plain: _Trial, facts: dict[str, Any]) -> Iterator[Guarantee]:
    for name in OF_A_RUN:
        if plain.result is None:
            why = facts["user_namespace"] if name == "user_namespace" else None
            yield _missing(name, why or plain.cause or ("no container starts here", ""))
            continue
        row = plain.result.enforced[name]
        if name == "landlock" and row.state != "held":
            row = _missing(name, _no_landlock(facts["landlock"]))
        yield row


def _no_landlock(answer: int) -> tuple[str, str]:
    if answer in (-38, -1):
        return CAUSES["landlock_filtered"]
    return CAUSES["landlock_off"] if answer == -95 else CAUSES["no_landlock"]  # EOPNOTSUPP, landlock_create_ruleset(2)


def _system_calls(facts: dict[str, Any]) -> Guarantee:
    """The calls of the road, each asked with arguments that only a kernel that has it complains about."""
    release = os.uname().release
    version = tuple(int(part) for part in release.split("-")[0].split(".")[:2])
    # Without CAP_SYS_ADMIN these say EPERM themselves.
    guarded = {"fsopen", "fsmount", "move_mount", "pivot_root"}
    for name, since, answer in facts["calls"]:
        if answer == 38 and version < tuple(since):
            return _missing("system_calls", too_old(name, since, release))
        if answer == 38 or answer < 0 or (answer in (1, 13) and not (name in guarded and not facts["root"])):
            said = _ERRNO_WORDS.get(answer, f"signal {-answer}")
            return _missing(
                "system_calls", (f"{name} answers {said}: {CAUSES['outer_filter'][0]}", CAUSES["outer_filter"][1])
            )
    return Guarantee(
        "system_calls", "held", f"{len(facts['calls'])} calls that containers are made of, Linux {release}"
    )


def _keeper(plain: _Trial, facts: dict[str, Any]) -> Guarantee:
    executable = facts["memfd"] == 0
    if core().keeper_pid() is None:
        return _missing("keeper", plain.cause or ("it ended", ""))
    if executable:
        return Guarantee("keeper", "held", "a sealed memfd")
    return Guarantee("keeper", "degraded", "the wheel's copy, as a file", *CAUSES["memfd_noexec"])


def _subuid(plain: _Trial, facts: dict[str, Any]) -> Guarantee:
    if plain.result is None:
        return _missing("subuid", plain.cause or ("no container starts here", ""))
    if facts["root"]:
        return Guarantee("subuid", "held", "65536 ids for each container, of the engine's own ranges")
    if facts["ids"] > 1:
        return Guarantee("subuid", "held", f"newuidmap, {facts['ids']} ids")
    helpers, ranges = facts["subuid"]
    name = "no_newuidmap" if not helpers else "newuidmap_failed" if ranges else "no_subuid_range"
    return Guarantee("subuid", "degraded", "one id", *CAUSES[name])


def _idmapped_mounts(plain: _Trial, facts: dict[str, Any]) -> Guarantee:
    """A writable bind of the directory for temporary files shows one owner as the container's root."""
    name = "idmapped_mounts"
    if plain.result is None:
        return _missing(name, plain.cause or ("no container starts here", ""))
    if not facts["root"]:
        return Guarantee(name, "held", "not needed: this user's files belong to the container's root")
    import tempfile  # noqa: PLC0415 - bz2, lzma, random: milliseconds of every import, for what few ask

    with tempfile.TemporaryDirectory(prefix="pycontainer-doctor-") as source:
        trial = _Trial(_true(), mounts=[Mount.bind(source, "/mnt/doctor", owner=65534)])
        where = os.path.dirname(source)
    return _row(name, trial.result is not None, f"mount_setattr on {where}", trial.cause or ("", ""))


def _storage(plain: _Trial) -> Guarantee:
    """Where images lie, and how a container gets them; a driver other than overlay is degraded, whoever picked it."""
    found = core().storage()
    if found is None:
        return _missing("storage", plain.cause or ("no container starts here", ""))
    path, kind, (used, cached), driver, shifted, why = found
    if driver is None:
        return _missing("storage", (why, f"unset {_DRIVER}"))
    by = f"{driver} on {kind}, {os.fspath(path)}, {used} bytes of images, {cached} of build caches"
    if driver == "overlay" and not shifted:
        return Guarantee("storage", "held", by)
    if shifted:
        why = f"an image is copied once for each range of ids: {why}"
    elif driver == "fuse-overlayfs":
        why = f"a process shows each container its files: {why}"
    else:
        why = f"each container copies its image: {why}"
    return Guarantee("storage", "degraded", by, why, _CURES_OF_DRIVERS)


# ---- one probe per promise that needs a container of its own ----------------------------------------------------


def _tried(name: str, by: str, works: Callable[[Result[str]], bool], script: str, **options: Any) -> Guarantee:
    """Run a script that shows whether a promise is kept; `works` looks at its Result."""
    trial = _Trial(_shell(script), **options)
    if trial.result is None:
        if isinstance(trial.error, CommandNotFound):
            return _missing(name, ("/bin/sh, which tries it, is not on this machine", "install a shell"))
        return _missing(name, trial.cause or ("", ""))
    kept = works(trial.result)
    said = f"tried and not kept: status {trial.result.returncode}, {trial.result.reason}"
    return _row(name, kept, by, (said, ""))


def _wall_time(name: str) -> Guarantee:
    limits = Limits(wall_time=0.05)
    return _tried(
        name, "the keeper's clock", lambda r: r.reason is Reason.TIMEOUT, "while :; do :; done", limits=limits
    )


def _output(name: str) -> Guarantee:
    limits = Limits(output=1, output_mode="kill")
    return _tried(name, "the reader of the pipes", lambda r: r.reason is Reason.OUTPUT, _FLOOD, limits=limits)


_FLOOD = "while echo 0123456789012345678901234567890123456789012345678901234567890123; do :; done"


def _disk(name: str) -> Guarantee:
    script = f"exec 2>/dev/null; {_FLOOD} >/tmp/flood"
    limits = Limits(disk="256KiB")
    row = _tried(name, "the size of the tmpfs", lambda r: bool(r.usage.disk_full), script, limits=limits)
    by, why, _fix = core().disk_bound()
    on_disk = f"a {by}" if by else f"nothing: {why}"
    return Guarantee(name, row.state, f'{row.by}; upper="disk": {on_disk}', row.why, row.fix) if row.by else row


def _rlimits(name: str) -> Guarantee:
    limits = Limits(rlimits={"nofile": (64, 64)})
    return _tried(name, "setrlimit", lambda r: r.stdout == "64\n", "ulimit -n", limits=limits)


def _oom_score_adj(name: str) -> Guarantee:
    script = "read score </proc/self/oom_score_adj; echo $score"
    return _tried(name, "/proc", lambda r: r.stdout == "777\n", script, limits=Limits(oom_score_adj=777))


def _terminal(name: str) -> Guarantee:
    return _tried(name, "a pseudoterminal of its own", lambda r: "yes" in r.stdout, "test -t 0 && echo yes", tty=True)


_PROBES: dict[str, Callable[[str], Guarantee]] = {
    "wall_time": _wall_time,
    "output": _output,
    "disk": _disk,
    "rlimits": _rlimits,
    "oom_score_adj": _oom_score_adj,
    "terminal": _terminal,
}


# ---- control groups ----------------------------------------------------------------------------------------------


def _of_groups(plain: _Trial, native: Any) -> Iterator[Guarantee]:
    """What a group of each kind can hold, tried on one; a bound on tasks the user namespace can hold alone."""
    rows = {row[0]: Guarantee(*row) for row in native.group_support()}
    for name in OF_GROUPS:
        row = rows[name]
        if plain.result is None and row.state != "missing":
            row = _missing(name, plain.cause or ("no container starts here", ""))
        if name == "pids" and plain.result is not None and row.state != "held":
            row = plain.result.enforced["pids"]
        yield row


def _cgroup(plain: _Trial) -> Guarantee:
    """A container in a group of its own, seen in its /proc/PID/cgroup."""
    if plain.result is None:
        return _missing("cgroup", plain.cause or ("no container starts here", ""))
    trial = _Trial(_true(), limits=Limits(memory="64MiB", oom_group=False), degrade=["memory", "oom_group"])
    row = trial.result.enforced.get("cgroup") if trial.result else None
    if row is None:
        memory = trial.result.enforced.get("memory") if trial.result else None
        cause = (memory.why, memory.fix) if memory and memory.why else trial.cause
        return _missing("cgroup", cause or ("no group shows in a container's /proc", ""))
    if row.state == "held" and trial.result and "v1" in trial.result.enforced["memory"].by:
        return Guarantee("cgroup", "degraded", row.by, *CAUSES["hybrid"])
    return row
