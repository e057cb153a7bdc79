"""Images with links, files, FIFOs, sockets, devices where the engine mounts and writes: all stays inside."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

import pycontainer as pc
from hostile import attacks
from hostile.attacks import inside, links_out, put_chain, put_link, shell, without_engine

WAYS = list(links_out(Path("/x")))
OTHERS = {
    "file": attacks.put_file, "fifo": attacks.put_fifo, "socket": attacks.put_socket, "device": attacks.put_device,
}  # fmt: skip
OWN = ["proc", "sys", "dev"]
NOT_FOLLOWED = (20, 40)  # ENOTDIR, ELOOP


def refused(root: Path, **options: object) -> int:
    with pytest.raises(pc.SetupError) as caught:
        shell(root, "true", **options)
    return int(caught.value.errno or 0)


def test_control_a_mount_by_name_follows_the_images_link(fresh_rootfs: Path, canary: Path) -> None:
    """What a careless engine does: the tmpfs meant for the image's /proc lies on the host's directory."""
    put_link(fresh_rootfs / "proc", canary)
    seen = without_engine(
        'mount -t tmpfs none "$1/proc"; ls "$2"; grep -c "$2" /proc/self/mounts', str(fresh_rootfs), str(canary)
    )
    assert seen.split() == ["1"]  # covered: the canary's files are not seen there any more


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OWN)
def test_cve_2019_19921_proc_symlink(fresh_rootfs: Path, canary: Path, name: str, way: str) -> None:
    """Also CVE-2023-27561, CVE-2023-28642, CVE-2025-54867 (/proc, /sys), CVE-2026-41579 and CVE-2026-47766 (/dev)."""
    put_link(fresh_rootfs / name, links_out(canary)[way])
    assert refused(fresh_rootfs) in NOT_FOLLOWED


@pytest.mark.parametrize("name", OWN)
def test_cve_2023_27561_chain_of_links(fresh_rootfs: Path, canary: Path, name: str) -> None:
    put_chain(fresh_rootfs / name, links_out(canary)["relative"])
    assert refused(fresh_rootfs) in NOT_FOLLOWED


@pytest.mark.parametrize("name", OWN)
def test_cve_2019_19921_link_that_stays_inside(fresh_rootfs: Path, name: str) -> None:
    """There is no fallback: /proc on another directory of the image would be one that the image chose."""
    put_link(fresh_rootfs / name, "etc")
    assert refused(fresh_rootfs) in NOT_FOLLOWED


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("name", OWN)
def test_cve_2023_27561_not_a_directory(fresh_rootfs: Path, canary: Path, name: str, kind: str) -> None:
    OTHERS[kind](fresh_rootfs / name, canary)
    assert refused(fresh_rootfs) == 20


def test_cve_2023_28642_missing_mount_points_are_made_and_walls_stand(fresh_rootfs: Path) -> None:
    for name in OWN:
        attacks.remove(fresh_rootfs / name)
    done = shell(fresh_rootfs, "cat /proc/self/status; cat /proc/keys /proc/timer_list | wc -c", check=True)
    status = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    assert done.stdout.splitlines()[-1].strip() == "0"
    assert not any((fresh_rootfs / name).exists() for name in OWN), "made in the image instead of in the layer above it"


@pytest.mark.parametrize(
    "target", ["/proc", "proc", "/proc/sys", "/proc/self", "/proc/1/attr", "/sys", "/sys/fs", "/dev", "/", "../.."]
)
@pytest.mark.parametrize("below", ["", "/x"])
def test_cve_2019_16884_mount_led_over_proc(fresh_rootfs: Path, shared: Path, target: str, below: str) -> None:
    """A target is said by the caller, but what lies there is the image's: a link leads it to what only the engine
    mounts.
    """
    put_link(fresh_rootfs / "data", target)
    mounts = [pc.Mount.bind(shared, f"/data{below}", read_only=True)]
    if below and target in ("/", "../..", "/dev"):
        assert shell(fresh_rootfs, "test -d /x || test -d /dev/x", mounts=mounts).returncode == 0
    else:
        assert refused(fresh_rootfs, mounts=mounts)


@pytest.mark.parametrize("target", ["/proc", "/proc/self/attr", "/sys", "/dev", "/"])
def test_cve_2019_16884_said_by_the_caller(shared: Path, target: str) -> None:
    with pytest.raises(ValueError, match="engine's own"):
        pc.Mount.bind(shared, target)


def test_control_of_cve_2019_16884_proc_can_be_covered() -> None:
    """The kernel itself lets anything lie over /proc."""
    assert without_engine("mount -t tmpfs none /proc; ls -a /proc | wc -l").strip() == "2"


@pytest.mark.parametrize(
    "way", ["/proc/sys/kernel", "/proc/self/attr", "/proc/1/root/proc/sys/kernel", "/sys/kernel", "/proc"]
)
def test_cve_2025_52881_files_led_into_proc(fresh_rootfs: Path, way: str) -> None:
    """files= writes before the command starts, when /proc/sys is not yet read-only; a link must not lead it there."""
    put_link(fresh_rootfs / "config", way)
    assert refused(fresh_rootfs, files={"/config/domainname": b"evil"}) in (2, *NOT_FOLLOWED)


@pytest.mark.requires("root")
def test_cve_2025_52881_files_led_to_a_sysctl_of_the_host(fresh_rootfs: Path) -> None:
    """With user_namespace="host" the set-up has the host's root: here the write would arrive."""
    sysctl = Path("/proc/sys/kernel/printk_ratelimit_burst")
    before = sysctl.read_text()
    put_link(fresh_rootfs / "config", "/proc/sys/kernel")
    try:
        code = refused(
            fresh_rootfs, files={f"/config/{sysctl.name}": b"11"}, security=pc.Security(user_namespace="host")
        )
        assert code in NOT_FOLLOWED
        assert sysctl.read_text() == before
        sysctl.write_text(before)  # the control: root of the host may
    finally:
        sysctl.write_text(before)


MASKED = """
for f in /proc/keys /proc/timer_list /proc/interrupts; do cat $f; echo x >$f; done
ls -A /proc/acpi /sys/firmware | grep -v :
"""


@pytest.mark.parametrize("kind", ["link", *OTHERS])
@pytest.mark.parametrize("name", ["null", "console", "pts", "ptmx", "shm", "mqueue", "tty", "zero"])
def test_cve_2025_31133_dev_null_of_the_image(fresh_rootfs: Path, canary: Path, name: str, kind: str) -> None:
    """Also CVE-2025-62161: what masks is a node of our own making, whatever the image has in /dev. And
    CVE-2026-88264.
    """
    poison = OTHERS.get(kind, put_link)
    poison(fresh_rootfs / "dev" / name, "/proc/sys/kernel/core_pattern" if name == "null" else canary)
    done = shell(fresh_rootfs, f"{MASKED} stat -c %t:%T /dev/null; echo ok >/dev/null")
    assert done.stdout.split() == ["1:3"], done


def test_control_of_cve_2025_31133_a_link_is_bound_instead(fresh_rootfs: Path, canary: Path) -> None:
    """What a careless engine binds: the target of the link, and writable."""
    put_link(fresh_rootfs / "dev/null", canary / "file")
    (fresh_rootfs / "masked").write_text("")
    script = 'mount --bind "$1/dev/null" "$1/masked"; cat "$1/masked"'
    assert without_engine(script, str(fresh_rootfs)) == "secret of the host\n"


@pytest.mark.parametrize("name", ["console", "pts", "ptmx", "tty"])
@pytest.mark.parametrize("kind", ["link", *OTHERS])
def test_cve_2025_52565_console_of_the_image(fresh_rootfs: Path, canary: Path, name: str, kind: str) -> None:
    """The console is a pty of the container's own devpts, opened by TIOCGPTPEER and never by a path."""
    poison = OTHERS.get(kind, put_link)
    poison(fresh_rootfs / "dev" / name, canary / "file")
    done = shell(fresh_rootfs, "stat -c %t:%T /dev/console; stat -L -c %t /proc/self/fd/0; tty", tty=True)
    rows = done.stdout.replace("\r", "").split()
    assert rows[0].startswith("88:"), done  # major 136
    assert rows[1:] == ["88", "/dev/pts/0"], done


def test_control_of_cve_2025_52565_the_pty_s_name_in_the_image_is_bound_instead(
    fresh_rootfs: Path, canary: Path
) -> None:
    """What a careless engine binds onto the console: whatever /dev/pts/0 of the image leads to."""
    (fresh_rootfs / "dev/pts").mkdir(parents=True, exist_ok=True)
    put_link(fresh_rootfs / "dev/pts/0", canary / "file")
    (fresh_rootfs / "dev/console").write_text("")
    script = 'mount --bind "$1/dev/pts/0" "$1/dev/console"; cat "$1/dev/console"'
    assert without_engine(script, str(fresh_rootfs)) == "secret of the host\n"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("target", ["/etc/hosts", "/etc/hostname", "/a/b/c/new", "/.dockerenv"])
def test_cve_2025_24965_file_through_a_link(fresh_rootfs: Path, canary: Path, target: str, way: str) -> None:
    """Also CVE-2024-5154, CVE-2022-4122, CVE-2022-4123, and CVE-2026-87766 (a parent several levels up is the link)."""
    first = fresh_rootfs / target.split("/")[1]
    put_link(first, links_out(canary)[way])
    try:
        shell(fresh_rootfs, "true", files={target: b"overwritten"})
    except pc.SetupError as error:
        if error.errno not in (2, 17, *NOT_FOLLOWED):
            raise


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("target", ["/a", "/a/ptmx", "/a/b/c", "/a/file"])
def test_cve_2015_1335_mount_point_through_a_link(
    fresh_rootfs: Path, canary: Path, shared: Path, target: str, way: str
) -> None:
    """Also CVE-2024-45310 (what is missing is made beneath the root only) and CVE-2026-87766."""
    (shared / "inner").write_text("")
    os.chown(shared / "inner", shared.stat().st_uid, shared.stat().st_gid)
    put_link(fresh_rootfs / "a", links_out(canary)[way])
    for mount in (pc.Mount.bind(shared, target), pc.Mount.tmpfs(target), pc.Mount.bind(shared / "inner", target)):
        try:
            shell(fresh_rootfs, "true", mounts=[mount])
        except pc.SetupError as error:
            if error.errno not in (2, 17, *NOT_FOLLOWED):
                raise


def test_control_of_cve_2026_87766_a_missing_mount_point_is_made_outside(fresh_rootfs: Path, scratch: Path) -> None:
    place = scratch / "made-outside"
    place.mkdir()
    put_link(fresh_rootfs / "a", place)
    without_engine('mkdir -p "$1/a/b/c"', str(fresh_rootfs))
    assert (place / "b/c").is_dir()
    attacks.remove(place)


@pytest.mark.parametrize("name", ["etc/passwd", "etc/hosts", "a"])
def test_cve_2026_39822_trailing_slash(fresh_rootfs: Path, canary: Path, shared: Path, name: str) -> None:
    """openat(dir, "link/", O_NOFOLLOW) follows the link; no trailing slash reaches the kernel."""
    put_link(fresh_rootfs / name, links_out(canary)["relative"])
    for end in ("/", "/.", "//"):
        try:
            shell(fresh_rootfs, "true", mounts=[pc.Mount.bind(shared, f"/{name}{end}", read_only=True)])
        except pc.SetupError as error:
            if error.errno not in (2, 17, *NOT_FOLLOWED):
                raise
    here = os.open(fresh_rootfs, os.O_PATH)
    put_link(fresh_rootfs / "control", canary)
    seen = os.open("control/", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)  # the control: it follows
    assert os.path.samestat(os.fstat(seen), canary.stat())
    os.close(seen)
    os.close(here)


@pytest.mark.requires("root")
def test_cve_2026_47766_devices_are_made_in_our_dev_only(fresh_rootfs: Path) -> None:
    """Devices asked for go to our tmpfs; the image's directories get none."""
    attacks.remove(fresh_rootfs / "dev")
    (fresh_rootfs / "dev").mkdir()
    done = shell(fresh_rootfs, "stat -c %t:%T /dev/kmsg /dev/null", security=pc.Security(devices=["/dev/kmsg"]))
    assert done.stdout.split() == ["1:b", "1:3"]
    assert list((fresh_rootfs / "dev").iterdir()) == []


@pytest.mark.requires("root")
def test_k38_device_node_in_a_layer_does_not_open(fresh_rootfs: Path) -> None:
    """A node in an image, as a privileged tar would leave it: the root is nodev, so it is only a name."""
    node = fresh_rootfs / "zero"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    node.chmod(0o666)
    assert len(node.open("rb").read(1)) == 1  # the control: on the host it opens
    for user_namespace in ("auto", "host"):
        done = shell(fresh_rootfs, "head -c 1 /zero", security=pc.Security(user_namespace=user_namespace))
        assert done.returncode == 1
        assert "Permission denied" in done.stderr


def test_control_of_the_walls_nothing_here_fires_by_itself() -> None:
    """An honest image in the same hands: every refusal above is the poison's, not the engine's."""
    assert inside("tell(os.path.ismount('/proc') and os.path.ismount('/sys') and os.path.ismount('/dev'))") is True
