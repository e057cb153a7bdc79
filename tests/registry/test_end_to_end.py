"""Built here, pushed to Debian's docker-registry by TLS and with a password; pulled by us, skopeo, podman and docker.

By the public API alone, with what a user would configure: an authority in certs.d, a password in a file that
`skopeo login` wrote.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import engines
import pycontainer as pc
from pace import patience
from registry import serving
from registry.serving import PASSWORD, USER, Served

pytestmark = pytest.mark.requires(
    "userns", "program:docker-registry", "program:skopeo", "program:openssl", "program:htpasswd"
)
PROGRAM = 'echo "I am $(cat /who)"; id -u; pwd; stat -c "%n %a %u" /d /d/f; echo "$GREETING"'


def run(*argv: str, **more: object) -> str:
    return engines.run(*argv, **more).decode()


@pytest.fixture
def trusted(secure: Served, home: Path, authority: tuple[Path, Path, Path]) -> Served:
    """The registry, whose authority this user has put where podman and skopeo look, too."""
    place = home / ".config/containers/certs.d" / secure.host
    place.mkdir(parents=True)
    shutil.copy(authority[0], place / "ca.crt")
    return secure


@pytest.fixture
def built(rootfs: Path, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pc.Image]:
    """An image of three layers, in a store of this test's own."""
    place = Path(tempfile.mkdtemp(prefix="end-to-end-", dir=scratch))
    place.chmod(0o755)
    monkeypatch.setenv("PYCONTAINER_ROOT", str(place / "store"))
    shutil.copytree(rootfs, tmp_path / "context/root", symlinks=True)
    (tmp_path / "context/Dockerfile").write_text(
        "FROM scratch\nCOPY root /\nRUN mkdir -m 2750 /d && echo x > /d/f && echo built > /who\n"
        f"COPY <<'EOF' /program\n{PROGRAM}\nEOF\nENV GREETING='hello, registry'\nWORKDIR /d\n"
        'CMD ["sh", "/program"]\n'
    )
    yield pc.Image.build(tmp_path / "context", tag="end/to-end:1")
    subprocess.run(["rm", "-rf", str(place)], check=True)


def said(image: pc.Image) -> str:
    return str(pc.run(image=image, text=True, check=True, timeout=patience(30)).stdout)


def log_in(host: str, home: Path) -> None:
    """As a user does it; skopeo checks the password with the registry."""
    file = home / ".config/containers/auth.json"
    run("skopeo", "login", "--authfile", str(file), "-u", USER, "-p", PASSWORD, host)


def blobs(store: Path, image: pc.Image) -> dict[str, bytes]:
    """Each document and layer of it, by its digest."""
    manifest = json.loads(image._manifest)
    digests = [image.digest, manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
    return {str(one): (store / "images/blobs/sha256" / str(one).partition(":")[2]).read_bytes() for one in digests}


def test_pushed_and_pulled_by_tls_and_with_a_password(trusted: Served, built: pc.Image, home: Path) -> None:
    store, name, expected = Path(os.environ["PYCONTAINER_ROOT"]), f"{trusted.host}/team/app:1", said(built)
    assert expected.startswith("I am built\n0\n/d\n")
    sent = blobs(store, built)
    with pytest.raises(pc.AuthError):
        built.push(name)
    with pytest.raises(pc.AuthError):
        built.push(name, auth=(USER, "wrong"))
    events: list[object] = []
    built.push(name, auth=(USER, PASSWORD), progress=events.append)
    assert events

    # Nothing of it is here any more, and it comes back the same.
    built.remove()
    pc.Image.prune()
    subprocess.run(["rm", "-rf", str(store)], check=True)
    with pytest.raises(pc.AuthError):
        pc.Image.pull(name)
    log_in(trusted.host, home)
    pulled = pc.Image.pull(name)
    assert (pulled.digest, pulled.reference) == (built.digest, name)
    pulled.verify()
    assert blobs(store, pulled) == sent
    assert said(pulled) == expected
    # By the login alone.
    pulled.tag(f"{trusted.host}/team/other:2").push()

    # skopeo finds the same bytes there.
    layout = store.parent / "skopeo"
    run("skopeo", "--insecure-policy", "copy", f"docker://{trusted.host}/team/other:2", f"oci:{layout}:it")
    assert {f"sha256:{path.name}": path.read_bytes() for path in (layout / "blobs/sha256").iterdir()} == sent

    # The password is in no file of ours, and in no event.
    for path in store.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()
    assert PASSWORD not in repr(events)


def test_who_is_not_trusted_is_not_told_the_password(
    secure: Served, built: pc.Image, home: Path, tmp_path: Path
) -> None:
    """An authority is named for it, and is not the one that signed."""
    place = home / ".config/containers/certs.d" / secure.host
    place.mkdir(parents=True)
    shutil.copy(serving.authority(tmp_path / "another")[0], place / "ca.crt")
    for call in (
        lambda name: built.push(name, auth=(USER, PASSWORD)),
        lambda name: pc.Image.pull(name, auth=(USER, PASSWORD)),
    ):
        with pytest.raises(pc.RegistryError, match=r"(?i)certificate"):
            call(f"{secure.host}/team/untrusted:1")
    assert "untrusted" not in secure.log.read_text()


def test_another_process_pulls_with_the_login(trusted: Served, built: pc.Image, home: Path, tmp_path: Path) -> None:
    """As a script would: the environment and files of this user are all that it needs."""
    log_in(trusted.host, home)
    name = f"{trusted.host}/team/script:1"
    built.push(name)
    script = (
        "import pycontainer as pc; print(pc.run(image=pc.Image.pull(input()), text=True, check=True).stdout, end='')"
    )
    environment = {**os.environ, "PYCONTAINER_ROOT": str(tmp_path / "another-store")}
    assert run(sys.executable, "-c", script, input=name.encode(), env=environment) == said(built)


# ---- other engines -----------------------------------------------------------------------------------------------


@pytest.fixture
def podman() -> Iterator[tuple[str, ...]]:
    with engines.podman() as words:
        yield words


@pytest.mark.requires("root", "program:podman")
def test_podman_pulls_and_runs_the_same(trusted: Served, built: pc.Image, home: Path, podman: tuple[str, ...]) -> None:
    log_in(trusted.host, home)
    name = f"{trusted.host}/team/podman:1"
    built.push(name)
    run(*podman, "pull", "-q", name)
    seen = json.loads(run(*podman, "image", "inspect", name))[0]
    assert (f"sha256:{seen['Id']}", seen["Digest"]) == (built.id, built.digest)
    assert tuple(seen["RootFS"]["Layers"]) == built.layers
    assert run(*podman, "run", "--rm", "--network", "none", *engines.ULIMITS, name) == said(built)


@pytest.fixture(scope="module")
def docker(scratch: Path) -> Iterator[tuple[str, ...]]:
    with engines.docker(scratch) as words:
        yield words


@pytest.mark.requires("root", "program:dockerd")
@pytest.mark.leaks_by_design
def test_docker_pulls_and_runs_the_same_and_we_what_docker_built(
    trusted: Served, built: pc.Image, home: Path, docker: tuple[str, ...], tmp_path: Path
) -> None:
    name, expected = f"{trusted.host}/team/docker:1", said(built)
    built.push(name, auth=(USER, PASSWORD))
    environment = {**os.environ, "DOCKER_CONFIG": str(home / ".docker"), "DOCKER_BUILDKIT": "0"}
    run(*docker, "login", "-u", USER, "-p", PASSWORD, trusted.host, env=environment)
    run(*docker, "pull", "-q", name, env=environment)
    (seen,) = json.loads(run(*docker, "image", "inspect", name))
    assert (seen["Id"], tuple(seen["RootFS"]["Layers"])) == (built.id, built.layers)
    assert seen["RepoDigests"] == [f"{name.rpartition(':')[0]}@{built.digest}"]
    assert run(*docker, "run", "--rm", "--network", "none", name) == expected

    # docker builds on it and pushes; what docker wrote down of its login is enough for us.
    text = f"FROM {name}\nRUN echo docker > /who\nENV GREETING=bonjour\n"
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/Dockerfile").write_text(text)
    theirs = f"{trusted.host}/team/of-docker:1"
    run(*docker, "build", "-q", "--network", "none", "-t", theirs, str(tmp_path / "empty"), env=environment)
    run(*docker, "push", "-q", theirs, env=environment)
    pulled = pc.Image.pull(theirs)
    (seen,) = json.loads(run(*docker, "image", "inspect", theirs))
    assert (pulled.id, pulled.layers) == (seen["Id"], tuple(seen["RootFS"]["Layers"]))
    pulled.verify()
    assert said(pulled) == run(*docker, "run", "--rm", "--network", "none", theirs)
    assert said(pulled).startswith("I am docker\n")
    assert said(pulled).endswith("bonjour\n")
