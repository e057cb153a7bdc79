"""Security as a value: capabilities, seccomp profiles in docker's form, id maps, masks, devices."""

from __future__ import annotations

import json
import pathlib
import pickle
import re

import pytest

from pycontainer import _security as security
from pycontainer._errors import NotSupported, SetupError
from pycontainer._security import DEFAULT_CAPABILITIES, IdMap, Seccomp, Security

NONE = frozenset()


def test_the_default_set_is_podmans():
    assert Security()._capability_mask() == 0x800405FB
    assert len(DEFAULT_CAPABILITIES) == 11


def test_the_table_is_the_kernels():
    assert len(security.CAPABILITIES) == 41
    assert sorted(security.CAPABILITIES.values()) == list(range(41))
    header = pathlib.Path("/usr/include/linux/capability.h")
    if header.exists():
        lines = re.findall(r"^#define CAP_([A-Z_]+)\s+(\d+)$", header.read_text(), re.MULTILINE)
        assert lines
        assert {name: int(number) for name, number in lines}.items() <= security.CAPABILITIES.items()


def test_capabilities_with_and_without_the_prefix():
    made = Security(capabilities=["CAP_SYS_PTRACE", "kill", "cap_kill"])
    assert made.capabilities == {"SYS_PTRACE", "KILL"}
    assert Security(capabilities=DEFAULT_CAPABILITIES | {"SYS_PTRACE"}).capabilities > DEFAULT_CAPABILITIES
    assert Security(capabilities=())._capability_mask() == 0


def test_defaults_and_repr():
    made = Security()
    assert (made.seccomp, made.user_namespace, made.no_new_privileges) == ("default", "auto", True)
    assert (made.landlock, made.devices, made._id_maps()) == (None, (), ())
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware", "/sys/fs/selinux"} < set(made.masked_paths)
    assert made.readonly_paths == ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
    assert repr(made) == "Security()"
    assert repr(Security(seccomp="unconfined", devices=["/dev/fuse"])) == (
        "Security(devices=('/dev/fuse',), seccomp='unconfined')"
    )


def test_strict_says_what_run_must_hold():
    strict = Security.strict()
    assert strict.capabilities == NONE
    assert (strict._network, strict._read_only) == ("none", True)
    assert (Security()._network, Security()._read_only) == (None, False)
    assert strict != Security(capabilities=())
    assert repr(strict) == "Security.strict()"
    assert pickle.loads(pickle.dumps(strict)) == strict


def test_frozen_hashable_picklable():
    made = Security(user_namespace=IdMap(0, 1000, 5), seccomp=Seccomp({"defaultAction": "SCMP_ACT_LOG"}))
    assert pickle.loads(pickle.dumps(made)) == made
    assert hash(pickle.loads(pickle.dumps(made))) == hash(made)
    with pytest.raises(AttributeError, match="frozen"):
        made.devices = ()


@pytest.mark.parametrize(
    ("field", "bad", "error"),
    [
        ("capabilities", "KILL", TypeError),
        ("capabilities", ["ALL"], ValueError),
        ("capabilities", ["CAP_CAP_KILL"], ValueError),
        ("capabilities", [5], TypeError),
        ("capabilities", None, TypeError),
        ("capabilities", {"KILL": True}, TypeError),
        ("seccomp", "off", ValueError),
        ("seccomp", None, TypeError),
        ("seccomp", {"defaultAction": "SCMP_ACT_ALLOW"}, TypeError),
        ("no_new_privileges", 0, TypeError),
        ("user_namespace", "private", ValueError),
        ("user_namespace", None, TypeError),
        ("user_namespace", [], ValueError),
        ("user_namespace", [5], TypeError),
        ("user_namespace", IdMap(1, 1000, 5), ValueError),
        ("user_namespace", [IdMap(0, 1000, 5), IdMap(4, 2000, 5)], ValueError),
        ("user_namespace", [IdMap(0, 1000, 5), IdMap(9, 1004, 5)], ValueError),
        ("user_namespace", [IdMap(n, n, 1) for n in range(341)], ValueError),
        ("landlock", "yes", TypeError),
        ("masked_paths", "/proc/x", TypeError),
        ("masked_paths", ["proc/x"], ValueError),
        ("masked_paths", ["/"], ValueError),
        ("readonly_paths", ["/a/../b"], ValueError),
        ("readonly_paths", None, TypeError),
        ("devices", ["/dev"], ValueError),
        ("devices", ["/etc/passwd"], ValueError),
        ("devices", ["/dev/../etc"], ValueError),
        ("devices", "/dev/fuse", TypeError),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(field, bad, error):
    with pytest.raises(error, match=field):
        Security(**{field: bad})


def test_id_maps():
    one, two = IdMap(0, 1000, 1), IdMap(1, 100000, 65535)
    assert Security(user_namespace=one)._id_maps() == (one,)
    assert Security(user_namespace=[two, one])._id_maps() == (two, one)
    assert eval(repr(two)) == two
    with pytest.raises(ValueError, match="count"):
        IdMap(0, 1, 0)
    with pytest.raises(ValueError, match="count"):
        IdMap(0, 2**32 - 2, 2)
    with pytest.raises(ValueError, match="inside"):
        IdMap(-1, 0, 1)
    with pytest.raises(TypeError, match="outside"):
        IdMap(0, "0", 1)


def resolve(*syscalls, caps=NONE, arch="x86_64", kernel=(6, 1)):
    profile = Seccomp({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(syscalls)})
    return profile._resolve(frozenset(caps), arch, kernel)[1]


def allow(name="x", **rest):
    return {"names": [name], "action": "SCMP_ACT_ALLOW", **rest}


def test_a_profile_crosses_as_plain_tuples():
    profile = Seccomp(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                allow("read"),
                {
                    "names": ["socket", "socketpair"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 22,
                    "args": [
                        {"index": 0, "op": "SCMP_CMP_EQ", "value": 16},
                        {"index": 2, "op": "SCMP_CMP_MASKED_EQ", "value": 1, "valueTwo": 9},
                    ],
                },
            ],
        }
    )
    assert profile._resolve(NONE, "x86_64", (6, 1)) == (
        ("errno", 38),
        [
            (("read",), "allow", None, []),
            (("socket", "socketpair"), "errno", 22, [(0, "eq", 16, 0), (2, "masked_eq", 1, 9)]),
        ],
    )


def test_an_errno_that_is_not_said_is_eperm():
    assert Seccomp({"defaultAction": "SCMP_ACT_ERRNO"}).default == ("errno", 1)
    assert Seccomp({"defaultAction": "SCMP_ACT_KILL"}).default == ("kill_thread", None)


def test_several_conditions_on_one_argument_are_alternatives():
    args = [{"index": 0, "op": "SCMP_CMP_EQ", "value": value} for value in (0, 8)]
    assert [rule[3] for rule in resolve(allow(args=args))] == [[(0, "eq", 0, 0)], [(0, "eq", 8, 0)]]


@pytest.mark.parametrize(
    ("guard", "given", "there"),
    [
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, {}, False),
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, {"caps": {"SYS_ADMIN"}}, True),
        ({"includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}}, {"caps": {"BPF"}}, False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}}, {"caps": {"BPF"}}, False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, {"caps": {"BPF"}}, True),
        ({"includes": {"arches": ["amd64", "x32"]}}, {}, True),
        ({"includes": {"arches": ["arm64"]}}, {}, False),
        ({"includes": {"arches": ["arm64"]}}, {"arch": "aarch64"}, True),
        ({"excludes": {"arches": ["amd64"]}}, {}, False),
        ({"includes": {"minKernel": "4.8"}}, {"kernel": (4, 8)}, True),
        ({"includes": {"minKernel": "4.8"}}, {"kernel": (4, 7)}, False),
        ({"includes": {"minKernel": "4.8"}}, {"kernel": (4, 19)}, True),
        ({"excludes": {"minKernel": "4.8"}}, {"kernel": (5, 0)}, False),
        ({"includes": {}, "excludes": None, "args": None, "comment": ""}, {}, True),
    ],
)
def test_includes_and_excludes_mean_what_they_mean_to_docker(guard, given, there):
    assert bool(resolve(allow(**guard), **given)) is there


@pytest.mark.parametrize(
    ("profile", "error", "word"),
    [
        ("default.json", TypeError, "profile"),
        ([], TypeError, "profile"),
        ({}, ValueError, "defaultAction"),
        ({"defaultAction": "ALLOW"}, ValueError, "defaultAction"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, NotSupported, "NOTIFY"),
        ({"defaultAction": "SCMP_ACT_LOG", "flags": ["SECCOMP_FILTER_FLAG_TSYNC"]}, NotSupported, "flags"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}, ValueError, "errnoRet"),
        ({"defaultAction": "SCMP_ACT_LOG", "sycalls": []}, ValueError, "sycalls"),
        ({"defaultAction": "SCMP_ACT_LOG", "syscalls": {}}, TypeError, "syscalls"),
    ],
)
def test_bad_profiles(profile, error, word):
    with pytest.raises(error, match=word):
        Seccomp(profile)


@pytest.mark.parametrize(
    ("rule", "error", "word"),
    [
        ("read", TypeError, r"syscalls\[0\]"),
        ({"names": [], "action": "SCMP_ACT_ALLOW"}, ValueError, "name system calls"),
        ({"names": ["a b"], "action": "SCMP_ACT_ALLOW"}, ValueError, "name system calls"),
        ({"names": [5], "action": "SCMP_ACT_ALLOW"}, TypeError, "names"),
        ({"names": "read", "action": "SCMP_ACT_ALLOW"}, TypeError, "names"),
        ({"names": ["read"]}, ValueError, "action"),
        (allow(include={}), ValueError, "include"),
        (allow(includes=[]), TypeError, "includes"),
        (allow(includes={"cap": []}), ValueError, "cap"),
        (allow(includes={"minKernel": "new"}), ValueError, "minKernel"),
        (allow(args=[5]), TypeError, "args"),
        (allow(args=[{"index": 6, "op": "SCMP_CMP_EQ", "value": 0}]), ValueError, "index"),
        (allow(args=[{"index": 0, "op": "EQ", "value": 0}]), ValueError, "op"),
        (allow(args=[{"index": 0, "op": "SCMP_CMP_EQ", "value": -1}]), ValueError, "value"),
        (allow(args=[{"op": "SCMP_CMP_EQ", "value": 1}]), TypeError, "index"),
    ],
)
def test_bad_rules(rule, error, word):
    with pytest.raises(error, match=word):
        resolve(rule)


def test_a_profile_from_a_file(tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [allow("read")]}))
    made = Seccomp(path)
    assert made == Seccomp(json.loads(path.read_text()))
    assert repr(made) == "<Seccomp: 1 rules, otherwise errno>"
    path.write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        Seccomp(path)
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="not JSON"):
        Seccomp(path)
    with pytest.raises(SetupError, match="read the seccomp profile") as caught:
        Seccomp(tmp_path / "absent.json")
    assert caught.value.filename == str(tmp_path / "absent.json")


def test_a_profile_that_is_too_large(tmp_path):
    path = tmp_path / "large.json"
    path.write_bytes(b" " * (4 << 20) + b" ")
    with pytest.raises(ValueError, match="larger"):
        Seccomp(path)
