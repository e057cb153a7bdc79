"""A directory of the host that the container may write: what is planted there gives nobody on the host anything."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import pycontainer as pc
from hostile.attacks import inside, outside

OWNERS = [1000, 0] if os.geteuid() == 0 else [None]
UNFILTERED = pc.Security(seccomp="unconfined")
# Every call by which a mode reaches a file, and the mode that results where it was allowed.
PLANT = """
import ctypes, shutil
os.umask(0)
os.chdir(sys.argv[1])
def make(name):
    shutil.copyfile('/bin/sh' if os.path.exists('/bin/sh') else sys.executable, name)
    os.chmod(name, 0o755)
    return name
def fd_of(name, flags=os.O_RDWR):
    return os.open(name, flags)
class How(ctypes.Structure):
    _fields_ = [('flags', ctypes.c_uint64), ('mode', ctypes.c_uint64), ('resolve', ctypes.c_uint64)]
how = How(os.O_CREAT | os.O_WRONLY, 0o4755, 0)
answers = {}
for bits in (0o4755, 0o2755, 0o6777):
    tag = oct(bits)
    answers['chmod ' + tag] = call(90, make('chmod' + tag).encode(), bits)
    answers['fchmod ' + tag] = call(91, fd_of(make('fchmod' + tag)), bits)
    answers['fchmodat ' + tag] = call(268, -100, make('fchmodat' + tag).encode(), bits)
    answers['fchmodat2 ' + tag] = call(452, -100, make('fchmodat2' + tag).encode(), bits, 0)
    answers['open ' + tag] = call(2, ('open' + tag).encode(), os.O_CREAT | os.O_WRONLY, bits)
    answers['openat ' + tag] = call(257, -100, ('openat' + tag).encode(), os.O_CREAT | os.O_WRONLY, bits)
    answers['tmpfile ' + tag] = call(257, -100, b'.', os.O_TMPFILE | os.O_RDWR, bits)
    answers['creat ' + tag] = call(85, ('creat' + tag).encode(), bits)
    answers['mknod ' + tag] = call(133, ('mknod' + tag).encode(), stat.S_IFREG | bits, 0)
    answers['mknodat ' + tag] = call(259, -100, ('mknodat' + tag).encode(), stat.S_IFREG | bits, 0)
    answers['chmod high bits ' + tag] = call(90, make('high' + tag).encode(), bits | 1 << 40)
    answers['io_uring ' + tag] = call(425, 4, room(128))
answers['openat2'] = call(437, -100, b'openat2', ctypes.addressof(how), 24)
os.mkdir('directory')
call(83, b'mkdir-g+s', 0o2755)
answers['chmod directory'] = call(90, b'directory', 0o2755)
capabilities = struct.pack('<IIIII', 0x02000001, 1 << 7, 0, 0, 0)
for version, value in (('v2', capabilities), ('v3', struct.pack('<IIIIII', 0x03000001, 1 << 7, 0, 0, 0, 0))):
    attempt(os.setxattr, make('setxattr' + version), 'security.capability', value)
    attempt(os.setxattr, fd_of(make('fsetxattr' + version)), 'security.capability', value)
    args = (ctypes.c_uint64 * 2)(room(value, len(value)), len(value))
    call(463, -100, make('setxattrat' + version).encode(), 0, b'security.capability', ctypes.addressof(args), 16)
if os.path.exists('existing'):
    for name, body in (('copy', lambda: shutil.copy2('existing', 'copied')), ('link', lambda: os.link('existing',
        'linked')),
                       ('rename', lambda: os.rename('existing', 'renamed'))):
        answers[name] = attempt(body)[0]
os.umask(0o022)
tell(answers)
"""


def planted(place: Path, **options: Any) -> dict[str, Any]:
    return dict(inside(PLANT, "/place", **options))


def set_id_files(place: Path) -> set[str]:
    return {found.name for found in place.iterdir() if found.lstat().st_mode & 0o6000}


def capable_files(place: Path) -> dict[str, str]:
    """Files with capabilities that count in the host's own user namespace: of version 2, or of version 3 with root id
    0.
    """
    found = {}
    for path in place.iterdir():
        try:
            value = os.getxattr(path, "security.capability")
        except OSError:
            continue
        # The kernel shows a version 3 attribute as version 2 to those in whose namespace its root id is root.
        if value[3] == 2 or int.from_bytes(value[20:24], "little") == 0:
            found[path.name] = value.hex()
    return found


def bind(place: Path, owner: int | None) -> pc.Mount:
    if os.geteuid() == 0 and owner is not None:
        os.chown(place, owner, owner)
    return pc.Mount.bind(place, "/place", owner=owner)


@pytest.mark.parametrize(
    "security",
    [pc.Security(), UNFILTERED, pc.Security(no_new_privileges=False)],
    ids=["default", "unconfined", "nnp off"],
)
@pytest.mark.parametrize("owner", OWNERS)
def test_k32_no_set_id_file_through_a_writable_bind(shared: Path, owner: int | None, security: pc.Security) -> None:
    """Whatever filter the caller chose, none at all too: a set-id bit that the host's users would meet cannot
    be given.
    """
    answers = planted(shared, mounts=[bind(shared, owner)], security=security)
    assert set_id_files(shared) == set()
    assert {name: answer for name, answer in answers.items() if answer not in (-1, -38)} == {}
    owners = {found.lstat().st_uid for found in shared.iterdir()}
    assert owners == {os.geteuid() if owner is None else owner}


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("security", [pc.Security(), UNFILTERED], ids=["default", "unconfined"])
def test_k32_no_file_capabilities_through_a_writable_bind(
    shared: Path, owner: int | None, security: pc.Security
) -> None:
    """CAP_SETFCAP inside, with a bind whose files are the host root's (owner=0): the attribute would be the
    host's own.
    """
    planted(shared, mounts=[bind(shared, owner)], security=security)
    assert capable_files(shared) == {}


@pytest.mark.requires("root")
def test_control_of_k32_the_same_program_plants_without_walls(shared: Path) -> None:
    """On the host, and in a container whose /place is no bind: every call works, so each refusal above is a wall's."""
    answers = outside(PLANT, str(shared))
    made = set_id_files(shared)
    assert {
        "chmod0o4755",
        "fchmod0o4755",
        "fchmodat20o4755",
        "open0o4755",
        "creat0o4755",
        "mknod0o4755",
        "openat2",
    } <= made
    assert {"setxattrv2", "fsetxattrv2"} <= set(capable_files(shared))
    assert answers["chmod 0o4755"] == 0
    free = inside(PLANT, "/tmp")  # files of the writable layer die with it
    assert free["chmod 0o4755"] == 0


@pytest.mark.requires("root", "program:setpriv")
def test_control_of_k32_what_a_planted_file_would_give(shared: Path) -> None:
    """A set-id file of the host's root, run by nobody, is root: the hole that K32 found."""
    shutil.copy("/usr/bin/id", shared / "id")
    (shared / "id").chmod(0o4755)
    os.chown(shared, 0, 0)
    argv = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", str(shared / "id")]
    os.chown(shared / "id", 0, 0)
    (shared / "id").chmod(0o4755)
    assert "euid=0(root)" in subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@pytest.mark.requires("root")
def test_k32_existing_set_id_file_of_the_host(shared: Path) -> None:
    """Copied, linked, renamed: the copy has lost the bit, and the host's own file is still the host's."""
    shutil.copy("/bin/true", shared / "existing")
    (shared / "existing").chmod(0o4755)
    os.chown(shared, 1000, 1000)
    answers = planted(shared, mounts=[pc.Mount.bind(shared, "/place", owner=1000)])
    assert set_id_files(shared) <= {"existing", "linked", "renamed"}
    for name in set_id_files(shared):
        assert (shared / name).read_bytes() == Path("/bin/true").read_bytes()
    assert answers["copy"] == "refused"


@pytest.mark.requires("root")
def test_k32_root_owned_source_must_be_said_aloud(shared: Path) -> None:
    os.chown(shared, 0, 0)
    with pytest.raises(pc.SetupError, match="owner=0 aloud"):
        inside("tell(1)", mounts=[pc.Mount.bind(shared, "/place")])
    assert inside("tell(1)", mounts=[pc.Mount.bind(shared, "/place", read_only=True)]) == 1
    assert inside("open('/place/new', 'w'); tell(1)", mounts=[pc.Mount.bind(shared, "/place", owner=0)]) == 1
    assert (shared / "new").stat().st_uid == 0


@pytest.mark.requires("root")
@pytest.mark.parametrize("owner", [1, 1000, 65534])
@pytest.mark.parametrize("user_namespace", ["auto", "host"])
def test_k32_owner_is_who_was_said(shared: Path, owner: int, user_namespace: str) -> None:
    """Also with user_namespace="host", where root inside is root: what it writes there is the owner's all the same."""
    os.chown(shared, 0, 0)
    answer = (
        inside(
            "open('/place/new', 'w').close(); tell(os.stat('/place/new').st_uid)",
            mounts=[pc.Mount.bind(shared, "/place", owner=owner)],
            security=pc.Security(user_namespace=user_namespace),
        )
        if not os.chown(shared, owner, owner)
        else None
    )
    assert answer == 0
    assert (shared / "new").stat().st_uid == owner


@pytest.mark.requires("root")
def test_k32_other_ids_cannot_write(shared: Path) -> None:
    """One id of the bind is mapped: another user inside has no owner there (EOVERFLOW), and files of others are
    nobody's.
    """
    (shared / "of-root").write_text("host")
    (shared / "of-root").chmod(0o600)
    shared.chmod(0o777)
    answers = inside(
        """
        os.setgroups([]); os.setgid(5); os.setuid(5)
        tell([attempt(open, '/place/new', 'w'), attempt(open, '/place/of-root'), os.stat('/place/of-root').st_uid])
    """,
        mounts=[pc.Mount.bind(shared, "/place")],
    )
    assert answers == [["refused", "EOVERFLOW"], ["refused", "EACCES"], 65534]


def test_k32_read_only_bind_changes_nothing(canary: Path) -> None:
    """Recursively read-only (row 22): write, chmod, truncate, utime, xattr, mknod, link, unlink, rename."""
    answers = inside(
        """
        tell([attempt(body)[0] for body in (
            lambda: open('/place/file', 'w'), lambda: os.chmod('/place/file', 0o777),
            lambda: os.truncate('/place/file', 0),
            lambda: os.utime('/place/file', (1, 1)), lambda: os.setxattr('/place/file', 'user.x', b'1'),
            lambda: os.mknod('/place/new'), lambda: os.link('/place/file', '/place/new'),
            lambda: os.unlink('/place/file'),
            lambda: os.rename('/place/file', '/place/new'), lambda: os.mkdir('/place/new'),
            lambda: os.rmdir('/place/directory'),
            lambda: os.symlink('x', '/place/new'), lambda: os.chown('/place/file', 0, 0),
        )])
    """,
        mounts=[pc.Mount.bind(canary, "/place", read_only=True)],
    )
    assert set(answers) == {"refused"}
