"""The seccomp compiler against libseccomp, the number table against it, the default profile against Debian's."""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
import platform
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from native import cbpf, libseccomp
from pycontainer import _core

pytestmark = [pytest.mark.leaks_by_design, pytest.mark.requires("library:libseccomp.so.2")]  # no container is started

MACHINE = platform.machine()
ARCH = cbpf.ARCH[MACHINE]
NUMBERS = Path(__file__).parents[2] / "rust/src/security/seccomp/numbers/table.rs"
DEBIAN = Path("/usr/share/containers/seccomp.json")
DEFAULT_CAPABILITIES = 0x800405FB
EPERM, EINVAL, ENOSYS = cbpf.errno(1), cbpf.errno(22), cbpf.errno(38)

# Younger than the libseccomp of Debian 12; the numbers are those of linux/unistd.h.
YOUNG = {
    "set_mempolicy_home_node": 450, "cachestat": 451, "fchmodat2": 452, "map_shadow_stack": 453, "futex_wake": 454,
    "futex_wait": 455, "futex_requeue": 456, "statmount": 457, "listmount": 458, "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460, "lsm_list_modules": 461, "mseal": 462, "setxattrat": 463, "getxattrat": 464,
    "listxattrat": 465, "removexattrat": 466, "open_tree_attr": 467, "file_getattr": 468, "file_setattr": 469,
}  # fmt: skip
YOUNG_X86_64 = {"uretprobe": 335, "uprobe": 336}


def table() -> dict[str, dict[str, int]]:
    rows = re.findall(r'^    \("(\w+)", (\w+), (\w+)\),$', NUMBERS.read_text(), re.MULTILINE)
    columns = {"x86_64": 1, "aarch64": 2}
    return {arch: {row[0]: int(row[at]) for row in rows if row[at] != "NONE"} for arch, at in columns.items()}


def ours(capabilities: int = DEFAULT_CAPABILITIES, deny_setid_bits: bool = False) -> cbpf.Program:
    return cbpf.parse(_core.seccomp_program(capabilities, deny_setid_bits))


# ---- numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_numbers_are_those_of_libseccomp(arch: str) -> None:
    rows = table()[arch]
    young = YOUNG | (YOUNG_X86_64 if arch == "x86_64" else {})
    assert len(rows) > 300
    assert {name: nr for name, nr in rows.items() if nr != libseccomp.number(arch, name)} == {
        name: nr for name, nr in young.items() if libseccomp.number(arch, name) is None
    }
    assert young.items() <= rows.items()


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_no_call_of_libseccomp_is_missing(arch: str) -> None:
    rows = table()
    known = set(rows[arch].values())
    lib = libseccomp.library()
    lib.seccomp_syscall_resolve_num_arch.restype = ctypes.c_char_p
    named = {nr: lib.seccomp_syscall_resolve_num_arch(libseccomp.AUDIT_ARCH[arch], nr) for nr in range(512)}
    # aarch64 has no call of its own there; the library knows these from the 32-bit tables.
    assert {nr: name for nr, name in named.items() if name and nr not in known} == {}


def test_the_extension_has_the_table_of_the_source() -> None:
    for name, nr in table()[MACHINE].items():
        program, ignored = _core.seccomp_compile(("allow", None), [([name], "errno", 77, [])])
        assert ignored == []
        assert cbpf.run(cbpf.parse(program), ARCH, nr) == cbpf.errno(77), name


# ---- custom profiles ---------------------------------------------------------------------------------------------

NAMES = ["read", "write", "ioctl", "socket", "openat", "clone", "personality", "umount", "futimesat", "bogus"]
ACTIONS = st.sampled_from(
    [("allow", None), ("errno", None), ("errno", 38), ("errno", 0), ("kill_process", None), ("kill_thread", None),
     ("trap", None), ("log", None)]
)  # fmt: skip
VALUES = st.one_of(
    st.integers(0, 3),
    st.integers(0, 3).map(lambda value: value << 32),
    st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda halves: halves[0] << 32 | halves[1]),
    st.sampled_from([0xFFFFFFFF, 0xFFFFFFFF00000000, 2**64 - 1]),
    st.integers(0, 2**64 - 1),
)
ARGS = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(list(libseccomp.OPS)), VALUES, VALUES), max_size=3)


@st.composite
def profiles(draw: st.DrawFn) -> tuple[tuple[str, int | None], list[libseccomp.Rule]]:
    """One action per call: libseccomp says nothing about calls that match rules with different ones."""
    action_of = {name: draw(ACTIONS) for name in NAMES}
    rules: list[libseccomp.Rule] = []
    for _ in range(draw(st.integers(0, 6))):
        first = draw(st.sampled_from(NAMES))
        more = [name for name in draw(st.lists(st.sampled_from(NAMES), max_size=2))]
        names = [name for name in [first, *more] if action_of[name] == action_of[first]]
        rules.append((names, *action_of[first], draw(ARGS)))
    return draw(ACTIONS), rules


def calls(rules: list[libseccomp.Rule], extra: list[list[int]]) -> list[list[int]]:
    """Arguments at, below and above every value that the profile compares with."""
    rows = [[0] * 6, [2**64 - 1] * 6, *extra]
    for *_, args in rules:
        for base in list(rows[: 2 + len(extra)]):
            for step in (-1, 0, 1):
                row = list(base)
                for index, op, value, two in args:
                    row[index] = ((two if op == "masked_eq" else value) + step) % 2**64
                rows.append(row)
    return rows


def programs_of_parts(default: tuple[str, int | None], rules: list[libseccomp.Rule], name: str) -> list[cbpf.Program]:
    """libseccomp's programs for one call, one for each clause.

    2.5.4 must not see them together: of "argument 0 is not 2**32" and "is at least 1", it finds that neither holds
    for 2**32.
    """
    mine = [rule for rule in rules if name in rule[0]]
    parts = [([name], action, code, part) for _, action, code, args in mine for part in libseccomp.clauses(args)]
    return [cbpf.parse(libseccomp.compile_rules(MACHINE, default, [part])) for part in parts]


@given(profiles(), st.lists(st.lists(VALUES, min_size=6, max_size=6), max_size=3))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_custom_profiles_are_those_of_libseccomp(
    profile: tuple[tuple[str, int | None], list[libseccomp.Rule]], extra: list[list[int]]
) -> None:
    default, rules = profile
    compiled, ignored = _core.seccomp_compile(default, rules)
    program, otherwise = cbpf.parse(compiled), libseccomp.value(*default)
    named = dict.fromkeys(name for names, *_ in rules for name in names)
    assert ignored == [name for name in named if libseccomp.number(MACHINE, name) is None]
    for name in [*named, "close"]:
        if (nr := libseccomp.number(MACHINE, name)) is None:
            continue
        oracles = programs_of_parts(default, rules, name)
        for args in calls(rules, extra):
            theirs = {cbpf.run(oracle, ARCH, nr, args) for oracle in oracles} - {otherwise} or {otherwise}
            our = cbpf.run(program, ARCH, nr, args)
            assert {our} == theirs, (name, [hex(arg) for arg in args], cbpf.word(our))


@given(profiles(), st.lists(VALUES, min_size=6, max_size=6))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whole_programs_are_those_of_libseccomp(
    profile: tuple[tuple[str, int | None], list[libseccomp.Rule]], extra: list[int]
) -> None:
    default, rules = profile
    seen: set[str] = set()
    single = [rule for rule in rules if len(libseccomp.clauses(rule[3])) == 1]
    fresh: list[libseccomp.Rule] = []
    for names, action, number, args in single:  # one clause for each call, see programs_of_parts
        fresh.append(([name for name in dict.fromkeys(names) if name not in seen], action, number, args))
        seen.update(names)
    program = cbpf.parse(_core.seccomp_compile(default, fresh)[0])
    oracle = cbpf.parse(libseccomp.compile_rules(MACHINE, default, fresh))
    for row in calls(fresh, [extra]):
        verdicts = [[cbpf.run(each, ARCH, nr, row) for nr in range(470)] for each in (program, oracle)]
        assert verdicts[0] == verdicts[1], [hex(arg) for arg in row]


@pytest.mark.parametrize("order", [1, -1])
def test_a_rule_without_arguments_wins_as_in_libseccomp(order: int) -> None:
    rules = [(["ioctl"], "allow", None, []), (["ioctl"], "errno", 5, [(1, "eq", 7, 0)])][::order]
    programs = [
        _core.seccomp_compile(("errno", 1), rules)[0],
        libseccomp.compile_rules(MACHINE, ("errno", 1), rules),
    ]
    nr = table()[MACHINE]["ioctl"]
    assert [cbpf.run(cbpf.parse(program), ARCH, nr, [0, 7]) for program in programs] == [cbpf.ALLOW] * 2


def test_other_architectures_do_not_pass() -> None:
    program = cbpf.parse(_core.seccomp_compile(("allow", None), [])[0])
    foreign = [arch for arch in [*cbpf.ARCH.values(), 0x40000003, 0x40000028] if arch != ARCH]
    assert {cbpf.run(program, arch, 0) for arch in foreign} == {cbpf.KILL_PROCESS}
    if MACHINE == "x86_64":
        assert {cbpf.run(program, ARCH, 1 << 30 | nr) for nr in range(600)} == {ENOSYS}


@pytest.mark.parametrize(
    ("default", "rules"),
    [
        (("errno", 4096), []),
        (("allow", None), [(["read"], "errno", 4096, [])]),
        (("allow", None), [(["read"], "errno", 1, [(6, "eq", 0, 0)])]),
        (("allow", None), [(["read"], "errno", 1, [(0, "eq", value, 0)]) for value in range(3000)]),
    ],
)
def test_what_the_kernel_would_refuse_is_a_value_error(
    default: tuple[str, int | None], rules: list[libseccomp.Rule]
) -> None:
    with pytest.raises(ValueError, match="seccomp"):
        _core.seccomp_compile(default, rules)


# ---- the kernel --------------------------------------------------------------------------------------------------

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2


class SockFprog(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def errno_of(program: bytes | None, number: int, args: list[int]) -> int:
    """What a child that loads this filter (None: no filter) gets for a call; 0 is success, 255 a refused filter."""
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_long(arg) for arg in (number, *args)]
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if program is not None:
        fprog = SockFprog(len(program) // 8, program)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(fprog)):
            os._exit(255)
    os._exit(ctypes.get_errno() if libc.syscall(*words) == -1 else 0)


@pytest.mark.parametrize(
    ("name", "args", "without", "within"),
    [
        ("ioctl", [-1, 0x5412, 0], errno.EBADF, errno.EPERM),
        ("ioctl", [-1, 0x5412 | 1 << 32, 0], errno.EBADF, errno.EPERM),
        ("ioctl", [-1, 0x5401, 0], errno.EBADF, errno.EBADF),
        ("personality", [0x0040000], 0, errno.EPERM),
        ("personality", [0xFFFFFFFF], 0, 0),
        ("keyctl", [-1, 0, 0], errno.EOPNOTSUPP, errno.EPERM),
        ("clone3", [0, 0], errno.EINVAL, errno.ENOSYS),
        ("unshare", [0], 0, errno.EPERM),
        ("socket", [1, 1, 0], 0, 0),
        ("socket", [-1, 1, 0], errno.EAFNOSUPPORT, errno.EPERM),
        ("getpid", [], 0, 0),
    ],
)
def test_the_kernel_answers_as_the_interpreter(name: str, args: list[int], without: int, within: int) -> None:
    number = table()[MACHINE][name]
    assert errno_of(None, number, args) == without, "without the filter: the control"
    assert errno_of(_core.seccomp_program(DEFAULT_CAPABILITIES, False), number, args) == within


def test_the_kernel_takes_programs_with_long_jumps() -> None:
    rules: list[libseccomp.Rule] = [(["getpriority"], "errno", 1 + at % 20, [(1, "eq", at, 0)]) for at in range(700)]
    program = _core.seccomp_compile(("allow", None), rules)[0]
    assert any(code == cbpf.JUMP for code, *_ in cbpf.parse(program))
    number = table()[MACHINE]["getpriority"]
    for at in (0, 1, 255, 256, 257, 699):
        assert errno_of(program, number, [77, at]) == 1 + at % 20
    assert errno_of(program, number, [77, 700]) == errno.EINVAL


# ---- the default profile and Debian's ----------------------------------------------------------------------------

# Calls whose verdict depends on arguments; every other call is asked once, with zeros.
BY_ARGUMENT: dict[str, dict[str, list[int]]] = {
    "clone": {"thread": [0x3D0F00], "newuser": [0x10000011], "newns": [0x00020011], "newnet": [0x40000011]},
    "ioctl": {
        "TCGETS": [0, 0x5401], "TIOCSTI": [0, 0x5412], "TIOCSTI+2**32": [0, 0x100005412], "TIOCLINUX": [0, 0x541C],
    },
    "personality": {"linux": [0], "query": [0xFFFFFFFF], "no_randomize": [0x40000]},
    "socket": {
        "unspec": [0], "unix": [1], "inet": [2], "inet6": [10], "route": [16, 3, 0], "audit": [16, 3, 9],
        "packet": [17], "rds": [21], "can": [29], "tipc": [30], "bluetooth": [31], "alg": [38], "vsock": [40],
        "xdp": [44],
    },
    "socketpair": {"unix": [1], "audit": [16, 3, 9], "tipc": [30]},
}  # fmt: skip

# The differences, each group with its reason: (ours, Debian's) -> calls.
EXPECTED: dict[tuple[str, str], dict[str, str]] = {
    ("EPERM", "allow"): {
        "stricter, as moby: namespaces and mounts need CAP_SYS_ADMIN; Debian's leaves them to the kernel's own check, "
        "which root of a nested user namespace passes": """
            clone:newuser clone:newns clone:newnet fsconfig fsmount fsopen fspick mount mount_setattr move_mount
            open_tree setns umount2 unshare""",
        "stricter, as moby: refused to everyone, or to those without the capability that has a use for it": """
            keyctl pivot_root pidfd_getfd reboot syslog get_mempolicy mbind set_mempolicy""",
        "stricter than both: socket families are an allow-list": """
            socket:alg socket:bluetooth socket:can socket:packet socket:rds socket:tipc socket:vsock socket:xdp
            socketpair:tipc""",
        "stricter than both: input into a terminal that is shared with the host": """
            ioctl:TIOCSTI ioctl:TIOCSTI+2**32 ioctl:TIOCLINUX""",
    },
    ("ENOSYS", "allow"): {
        "stricter, as moby: the flags of clone3 are behind a pointer": "clone3",
    },
    ("EPERM", "ENOSYS"): {
        "both refuse; Debian's names no errno for what it does not list": """
            _sysctl add_key afs_syscall create_module get_kernel_syms getpmsg io_uring_enter io_uring_register
            io_uring_setup lsm_get_self_attr lsm_list_modules lsm_set_self_attr open_tree_attr personality:no_randomize
            putpmsg quotactl_fd request_key security set_mempolicy_home_node tuxcall vserver""",
    },
    ("EINVAL", "allow"): {
        "no looser: there are no pairs of netlink sockets, the kernel says EOPNOTSUPP": "socketpair:audit",
    },
    ("allow", "ENOSYS"): {
        "looser, as moby: younger than Debian's profile": """
            cachestat fchmodat2 futex_requeue futex_wait futex_waitv futex_wake getxattrat listmount listxattrat
            map_shadow_stack mseal removexattrat setxattrat statmount uretprobe""",
        "looser than both: what the ioctl FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR do already": """
            file_getattr file_setattr""",
        "looser than both: like uretprobe, the kernel's own trampoline calls it (Linux 6.18)": "uprobe",
    },
    ("allow", "EPERM"): {
        "looser, as moby: no more than read, write and io_getevents can do": "io_pgetevents vmsplice",
    },
}


def expected() -> dict[str, tuple[str, str]]:
    numbers = table()[MACHINE]
    rows: dict[str, tuple[str, str]] = {}
    for verdicts, groups in EXPECTED.items():
        for text in groups.values():
            rows |= {call: verdicts for call in text.split() if call.partition(":")[0] in numbers}
    return rows


@functools.cache
def debians() -> cbpf.Program:
    """Debian's profile for our default capabilities, resolved as podman does, compiled by libseccomp."""
    profile = json.loads(DEBIAN.read_text())
    have = {"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP",
            "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL"}  # fmt: skip
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[MACHINE]
    rules: list[libseccomp.Rule] = []
    for entry in profile["syscalls"]:
        wants, avoids = entry.get("includes") or {}, entry.get("excludes") or {}
        if not set(wants.get("caps", [])) <= have or arch not in wants.get("arches", [arch]):
            continue
        if set(avoids.get("caps", [])) & have or arch in avoids.get("arches", []):
            continue
        args = [
            (arg["index"], arg["op"].removeprefix("SCMP_CMP_").lower(), arg["value"], arg["valueTwo"])
            for arg in entry.get("args") or []
        ]
        action = entry["action"].removeprefix("SCMP_ACT_").lower()
        rules.append((entry["names"], action, entry.get("errnoRet"), args))
    return cbpf.parse(libseccomp.compile_rules(MACHINE, ("errno", profile["defaultErrnoRet"]), rules))


@pytest.mark.requires("seccomp.json")
def test_the_default_profile_differs_from_debians_where_we_say() -> None:
    found: dict[str, tuple[str, str]] = {}
    for name, nr in table()[MACHINE].items():
        for label, args in BY_ARGUMENT.get(name, {"": []}).items():
            our, their = (cbpf.word(cbpf.run(program, ARCH, nr, args)) for program in (ours(), debians()))
            if our != their:
                found[f"{name}:{label}" if label else name] = our, their
    for call, (our, their) in sorted(found.items(), key=lambda row: (row[1], row[0])):
        print(f"{call:28} ours {our:8} Debian's {their}")
    assert found == expected()


def test_every_verdict_of_the_default_profile_is_of_a_known_kind() -> None:
    programs = [ours(), ours(0), ours(2**64 - 1), ours(DEFAULT_CAPABILITIES, True)]
    for program in programs:
        assert len(program) <= 300
        assert {cbpf.run(program, ARCH, nr) for nr in range(2048)} == {cbpf.ALLOW, EPERM, ENOSYS}


def test_setid_bits_are_denied_only_when_asked() -> None:
    numbers = table()[MACHINE]
    fchmod = numbers["fchmod"]
    openat = numbers["openat"]
    for mode in (0o755, 0o1777, 0o2755, 0o4755, 0o6711):
        denied = EPERM if mode & 0o6000 else cbpf.ALLOW
        assert cbpf.run(ours(), ARCH, fchmod, [3, mode]) == cbpf.ALLOW
        assert cbpf.run(ours(deny_setid_bits=True), ARCH, fchmod, [3, mode]) == denied
        assert cbpf.run(ours(deny_setid_bits=True), ARCH, openat, [3, 0, 0o101, mode]) == denied
        assert cbpf.run(ours(deny_setid_bits=True), ARCH, openat, [3, 0, 0, mode]) == cbpf.ALLOW
