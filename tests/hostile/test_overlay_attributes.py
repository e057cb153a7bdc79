"""Overlay's own attributes and privileged files in a directory image: they lead nowhere beyond it, and give nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import pycontainer as pc
from hostile.attacks import inside, shell, without_engine

ROOT = os.geteuid() == 0
# trusted.* is root's to set, and what root's overlays obey; a plain user's obey user.*.
SPACES = ["trusted.overlay", "user.overlay"] if ROOT else ["user.overlay"]
OBEYED = SPACES[0]
DEFAULT = 0x800405FB


@pytest.fixture
def image(fresh_rootfs: Path) -> Path:
    """/d with a file, /f, and what they could be led to: /hidden."""
    for directory in ("d", "hidden"):
        (fresh_rootfs / directory).mkdir()
        (fresh_rootfs / directory / f"of-{directory}").write_text(f"content of {directory}\n")
    (fresh_rootfs / "f").write_text("content of f\n")
    return fresh_rootfs


def poison(image: Path, target: str) -> None:
    """Each attribute that overlay knows, on a directory and on a file."""
    for space in SPACES:
        for path in (image / "d", image / "f"):
            values = {"redirect": target.encode(), "opaque": b"y", "impure": b"y", "nlink": b"U+1"}
            values |= {"origin": b"\0\xfb\x1d\x01" + b"x" * 16, "upper": b"\0\xfb\x1d\x01", "protattr": b"a"}
            values |= {"metacopy": b""} if path.name == "f" else {}
            for name, value in values.items():
                os.setxattr(path, f"{space}.{name}", value)


USE = """
ls /d; cat /f
echo more >>/f; echo new >/d/new; chmod 700 /d; mv /d /moved; ls /moved; mv /f /moved/f; cat /moved/f
rm -r /moved /f; ls -d /moved /f
"""


@pytest.mark.parametrize("upper", ["memory", "disk"])
@pytest.mark.parametrize("target", ["/hidden", "hidden", "/hidden/of-hidden", "CANARY", "CLIMBING", "/", "..", ""])
def test_cve_2023_2640_overlay_s_attributes_in_a_directory_image(
    image: Path, canary: Path, target: str, upper: str
) -> None:
    """Also CVE-2023-32629 and row 121's rest: redirect, opaque and metacopy speak of layers below, and below an image
    there is none. It shows its own files, or refuses; never what it points to.
    """
    climbing = "/".join([".."] * 20) + str(canary)
    poison(image, target.replace("CANARY", str(canary)).replace("CLIMBING", climbing))
    done = shell(image, USE, upper=upper)
    shown = done.stdout.split("\n")
    assert "of-d" in shown, done
    assert not {"of-hidden", "ptmx", "directory"} & set(shown), done
    assert "content of hidden" not in done.stdout
    assert "secret" not in done.stdout
    assert {"/moved", "/f"} & set(shown) <= {"/f"}, "a file that is refused may stay; a directory goes"
    assert (image / "f").read_text() == "content of f\n"
    assert sorted(path.name for path in image.glob("d/*")) == ["of-d"]


@pytest.mark.requires("overlay-userns")
def test_control_of_cve_2023_2640_the_kernel_obeys_them_above_another_layer(image: Path, scratch: Path) -> None:
    """Above a second layer /d is led to a directory of that one (root), or hides it (a plain user, whose kernel follows
    no redirect).
    """
    below = Path(tempfile.mkdtemp(prefix="below-", dir=scratch))
    below.chmod(0o755)
    for path in ("d/of-below", "hidden/of-below-hidden"):
        (below / path).parent.mkdir()
        (below / path).write_text("")
    script = 'mount -t tmpfs none /mnt; cp -a "$2" /mnt/below; mkdir /mnt/merged; '
    script += 'mount -t overlay none /mnt/merged -o "$3,lowerdir=$1:/mnt/below"; ls /mnt/merged/d'
    options = "redirect_dir=follow" if ROOT else "userxattr"
    assert without_engine(script, str(image), str(below), options).split() == ["of-below", "of-d"]
    os.setxattr(image / "d", f"{OBEYED}.redirect" if ROOT else f"{OBEYED}.opaque", b"/hidden" if ROOT else b"y")
    led = without_engine(script, str(image), str(below), options).split()
    assert led == (["of-below-hidden", "of-d"] if ROOT else ["of-d"])
    shutil.rmtree(below)


def test_cve_2023_2640_nothing_inside_sets_them() -> None:
    """The container's root on its own root file system: trusted.* is not his, and what he sets of overlay's own in
    user.* is refused or, from Linux 6.7, kept for an overlay above this one: this one does not obey it.
    """
    answers = inside("""
        os.makedirs('/d/x')
        names = {space: space + '.overlay.redirect' for space in ('trusted', 'user')}
        answers = {space: attempt(os.setxattr, '/d', name, b'/etc') for space, name in names.items()}
        answers['mount'] = call(165, b'none', b'/d', b'overlay', 0, b'lowerdir=/etc:/d/x,userxattr')
        answers['listed'] = os.listdir('/d')
        tell(answers)
    """)
    assert answers["trusted"] == ["refused", "EPERM"]
    assert answers["mount"] == -1
    assert answers["listed"] == ["x"]


# ---- set-id files and file capabilities --------------------------------------------------------------------------


NAMESPACE = [] if ROOT else ["unshare", "--user", "--map-root-user"]
GIVE = """
import os, struct, sys
NET_RAW, SYS_ADMIN, VERSION_2, EFFECTIVE = 1 << 13, 1 << 21, 0x02000000, 1
value = struct.pack("<5I", VERSION_2 | EFFECTIVE, NET_RAW | SYS_ADMIN, 0, 0, 0)
os.setxattr(sys.argv[1], "security.capability", value)
"""


@pytest.fixture
def program(fresh_rootfs: Path) -> str:
    """A copy of busybox with capabilities, as this user can give them: a plain user's count in namespaces of his."""
    path = fresh_rootfs / "bin/busybox-with-capabilities"
    shutil.copy(fresh_rootfs / "bin/busybox", path)
    subprocess.run([*NAMESPACE, sys.executable, "-c", GIVE, str(path)], check=True)
    return path.name


@pytest.mark.requires("userns")
@pytest.mark.parametrize("no_new_privileges", [True, False])
@pytest.mark.parametrize("touched", ["", "chmod 755 $P; ", "echo >>$P; ", "mv $P $P-moved; P=$P-moved; "])
def test_cve_2023_0386_file_capabilities_survive_no_copy_up(
    fresh_rootfs: Path, program: str, touched: str, no_new_privileges: bool
) -> None:
    """Untouched, and copied up by a change of mode, of content, of name: what it executes with is within the bounding
    set, and a capability outside of it is refused or gone.
    """
    script = f"P=/bin/{program}; {touched}$P cat /proc/self/status"
    done = shell(fresh_rootfs, script, security=pc.Security(no_new_privileges=no_new_privileges))
    held = [int(line.split()[1], 16) for line in done.stdout.splitlines() if line.startswith("CapPrm")]
    assert held or "not permitted" in done.stderr, done
    assert all(mask & ~DEFAULT == 0 for mask in held)


@pytest.mark.requires("userns", "program:setpriv")
@pytest.mark.parametrize("given", [True, False])
def test_control_of_cve_2023_0386_the_capabilities_are_real(fresh_rootfs: Path, program: str, given: bool) -> None:
    """Executed without an engine, where being root gives nothing (SECBIT_NOROOT): the file does."""
    name = program if given else "busybox"
    argv = [*NAMESPACE, "setpriv", "--securebits", "+noroot", str(fresh_rootfs / "bin" / name), "cat"]
    done = subprocess.run([*argv, "/proc/self/status"], check=True, capture_output=True, text=True)
    effective = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("CapEff"))
    assert int(effective, 16) == (1 << 13 | 1 << 21 if given else 0)


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_cve_2021_3493_set_id_program_of_a_directory_image(
    fresh_rootfs: Path, shared: Path, no_new_privileges: bool
) -> None:
    """Whoever it makes of the command inside: outside that is nobody of this machine's but the owner of the bind, or
    the plain user himself.
    """
    path = fresh_rootfs / "bin/busybox-set-id"
    shutil.copy(fresh_rootfs / "bin/busybox", path)
    path.chmod(0o6755)
    shell(
        fresh_rootfs, "/bin/busybox-set-id touch /share/made", check=True,
        mounts=[pc.Mount.bind(shared, "/share")], security=pc.Security(no_new_privileges=no_new_privileges),
    )  # fmt: skip
    made = (shared / "made").stat()
    assert (made.st_uid, made.st_gid) == ((1000, 1000) if ROOT else (os.getuid(), os.getgid()))


GROUP = """
os.umask(0)
made = {}
os.close(os.open('/place/group/created', os.O_CREAT | os.O_WRONLY, 0o2775))
os.mknod('/place/group/node', 0o2775 | stat.S_IFREG)
fd = os.open('/place/group', os.O_TMPFILE | os.O_WRONLY, 0o2775)
assert call(265, -100, f'/proc/self/fd/{fd}'.encode(), -100, b'/place/group/linked', 0x400) == 0  # linkat
os.mkdir('/place/group/directory', 0o775)
seen = {name: os.stat('/place/group/' + name) for name in ('created', 'node', 'linked', 'directory')}
seen = {name: [row.st_gid, row.st_mode & 0o2010] for name, row in seen.items()}
tell([os.stat('/place/group').st_gid, os.getgid(), seen])
"""


@pytest.mark.requires("ids")
def test_cve_2021_4037_no_set_group_id_program_of_a_group_that_is_not_ours(scratch: Path) -> None:
    """In a set-group-ID directory of another group files get that group, and lose the bit: created, made by mknod, or
    without a name and linked. A directory keeps it, which shows that the group is inherited. Done by the kernel (5.19),
    so that no control can fire on this one; what the engine adds is that no file system of a container has suid.
    """
    place = Path(tempfile.mkdtemp(prefix="set-group-id-", dir=scratch))
    place.chmod(0o755)
    (place / "group").mkdir()
    (place / "group").chmod(0o2777)
    group, own, seen = inside(GROUP, user="1000:1000", mounts=[pc.Mount.overlay(place, "/place")])
    assert group != own
    assert seen.pop("directory") == [group, 0o2010]
    assert seen == {name: [group, 0o10] for name in ("created", "node", "linked")}
    shutil.rmtree(place)
