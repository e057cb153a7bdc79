"""registries.conf, certificates and proxies, as podman and docker read them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer
from pycontainer import _core
from registry import faults, layouts, serving
from registry.faults import PATIENCE, Registry
from registry.serving import Served

pytestmark = pytest.mark.requires("program:openssl")


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def write(text: str) -> None:
        path = tmp_path / "registries.conf"
        path.write_text(text)
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))

    return write


def test_a_name_is_looked_for_where_the_file_says(configure, store: Path) -> None:
    with faults.serving(Registry(layouts.picture(1))) as registry:
        configure(f'[[registry]]\nprefix = "r.example/team"\nlocation = "{registry.host}/mirror"\n')
        assert _core.image_pull(store, "r.example/team/app:1", patience=PATIENCE)
        assert registry.seen[0].path == "/v2/mirror/app/manifests/1"
        # The name in the store is the one that was asked for.
        assert "r.example/team/app:1" in (store / "images/index.json").read_text()


def test_docker_hub_s_short_names_too(configure, store: Path) -> None:
    with faults.serving(Registry(layouts.picture(1))) as registry:
        configure(
            'unqualified-search-registries = ["evil.test"]\n'
            f'[[registry]]\nprefix = "docker.io"\nlocation = "{registry.host}"\n'
        )
        assert _core.image_pull(store, "alpine", patience=PATIENCE)
        assert registry.seen[0].path == "/v2/library/alpine/manifests/latest"


def test_mirrors_come_first_and_the_registry_itself_last(configure, store: Path) -> None:
    picture = layouts.picture(1)
    with faults.serving(Registry(picture)) as itself, faults.serving(Registry(picture)) as mirror:
        text = f'[[registry]]\nprefix = "r.example"\nlocation = "{itself.host}"\n'
        configure(f'{text}[[registry.mirror]]\nlocation = "{mirror.host}/m"\n')
        assert _core.image_pull(store, "r.example/a:1", patience=PATIENCE)
        assert itself.seen == []
        assert mirror.seen[0].path == "/v2/m/a/manifests/1"
        mirror.fault = lambda handler, what: not handler.answer(404, b"{}")
        assert _core.image_pull(store, "r.example/b:1", patience=PATIENCE)
        assert itself.seen[0].path == "/v2/b/manifests/1"
        # A mirror for digests only is not asked for a tag.
        mirror.seen.clear()
        configure(f'{text}mirror-by-digest-only = true\n[[registry.mirror]]\nlocation = "{mirror.host}/m"\n')
        assert _core.image_pull(store, "r.example/c:1", patience=PATIENCE)
        assert mirror.seen == []
        # One that is down, too.
        dead = f'[[registry.mirror]]\nlocation = "localhost:{serving.free_port()}"\n'
        configure(text + dead)
        assert _core.image_pull(store, "r.example/d:1", patience=PATIENCE)


def test_what_is_blocked_is_not_asked(configure, store: Path) -> None:
    with faults.serving(Registry(layouts.picture(1))) as registry:
        configure(f'[[registry]]\nlocation = "{registry.host}"\nblocked = true\n')
        with pytest.raises(pycontainer.RegistryError, match="blocks"):
            _core.image_pull(store, f"{registry.host}/a")
        assert registry.seen == []


def test_a_file_that_is_none_is_named(configure, store: Path) -> None:
    configure("[[registry]\n")
    with pytest.raises(pycontainer.ImageError, match=r"registries\.conf"):
        _core.image_pull(store, "localhost:1/a")


# ---- TLS ---------------------------------------------------------------------------------------------------------


def certificates(home: Path, host: str) -> Path:
    place = home / ".config/containers/certs.d" / host
    place.mkdir(parents=True)
    return place


def test_http_and_certificates_nobody_vouches_for_only_where_it_is_said(
    configure, authority: tuple[Path, Path, Path], home: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = layouts.picture(1)
    with faults.serving(Registry(picture)) as plain, faults.serving(Registry(picture), tls=authority) as tls:
        # On this machine itself both go, as with docker.
        assert _core.image_pull(store, f"{plain.host}/a:1", patience=PATIENCE)
        assert _core.image_pull(store, f"{tls.host}/b:1", patience=PATIENCE)
        # A file that says no is obeyed.
        configure("".join(f'[[registry]]\nlocation = "{host}"\ninsecure = false\n' for host in (plain.host, tls.host)))
        before = len(plain.seen)
        for host in (plain.host, tls.host):
            with pytest.raises(pycontainer.RegistryError):
                _core.image_pull(store, f"{host}/c:1", patience=PATIENCE)
        assert len(plain.seen) == before
        # Whoever has the authority, of the host or of the whole machine, may.
        monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
        assert _core.image_pull(store, f"{tls.host}/d:1", patience=PATIENCE)
        monkeypatch.delenv("SSL_CERT_FILE")
        (certificates(home, tls.host) / "ca.crt").write_bytes(authority[0].read_bytes())
        assert _core.image_pull(store, f"{tls.host}/e:1", patience=PATIENCE)
        configure("".join(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n' for host in (plain.host, tls.host)))
        assert _core.image_pull(store, f"{plain.host}/f:1", patience=PATIENCE)
        assert _core.image_pull(store, f"{tls.host}/g:1", patience=PATIENCE)


def test_a_certificate_of_another_host_is_none(
    configure, authority: tuple[Path, Path, Path], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    with faults.serving(Registry(layouts.picture(1)), tls=authority) as registry:
        other = registry.host.replace("localhost", "127.0.0.2")
        configure(f'[[registry]]\nlocation = "{other}"\ninsecure = false\n')
        with pytest.raises(pycontainer.RegistryError):
            _core.image_pull(store, f"{other}/a", patience=PATIENCE)


@pytest.mark.requires("program:docker-registry", "program:skopeo")
def test_a_client_certificate(authority: tuple[Path, Path, Path], home: Path, tmp_path: Path, store: Path) -> None:
    with serving.registry(tmp_path / "served", tls=authority, clients=True) as served:
        place = certificates(home, served.host)
        (place / "ca.crt").write_bytes(authority[0].read_bytes())
        with pytest.raises(pycontainer.RegistryError):
            _core.image_pull(store, f"{served.host}/a", patience=PATIENCE)
        (place / "client.cert").write_bytes((authority[0].parent / "client.crt").read_bytes())
        (place / "client.key").write_bytes((authority[0].parent / "client.key").read_bytes())
        with pytest.raises(pycontainer.ImageNotFound):
            _core.image_pull(store, f"{served.host}/a", patience=PATIENCE)
        # A key of somebody else's.
        (place / "client.key").write_bytes(authority[2].read_bytes())
        with pytest.raises(pycontainer.ImageError, match="no pair"):
            _core.image_pull(store, f"{served.host}/a", patience=PATIENCE)


# ---- proxies -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def proxy(target: tuple[str, int], asked: list[bytes]) -> Iterator[str]:
    """One that lets CONNECT through, to `target` whatever was asked for."""

    def carry(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                said = b""
                while not said.endswith(b"\r\n\r\n"):
                    said += client.recv(65536) or b"\r\n\r\n"
                asked.append(said)
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                upstream = socket.create_connection(target)
                for pair in ((client, upstream), (upstream, client)):
                    threading.Thread(target=carry, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_a_proxy_is_used_and_not_where_it_is_not_to_be(
    authority: tuple[Path, Path, Path], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names are nobody's, and the address is of RFC 5737: without the proxy nothing is found there."""
    picture = layouts.picture(1)
    asked: list[bytes] = []
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    with (
        faults.serving(Registry(picture), tls=authority) as registry,
        proxy(("127.0.0.1", int(registry.host.split(":")[1])), asked) as place,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@{place}")
        assert _core.image_pull(store, "r.example/a:1", patience=PATIENCE)
        assert asked[0].startswith(b"CONNECT r.example:443 ")
        count = len(asked)
        assert _core.image_pull(store, f"{registry.host}/b:1", patience=PATIENCE)
        assert len(asked) == count  # this machine itself is asked without one
        monkeypatch.setenv("NO_PROXY", "192.0.2.0/24")
        with pytest.raises(pycontainer.RegistryError):
            _core.image_pull(store, "192.0.2.1/c:1", patience=(0.2, 1, 0.01))
        assert len(asked) == count
        monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@bad host/")
        with pytest.raises(pycontainer.RegistryError, match="HTTPS_PROXY") as caught:
            _core.image_pull(store, "r.example/d:1", patience=PATIENCE)
        assert "secret" not in str(caught.value)


@pytest.mark.requires("program:docker-registry", "program:skopeo")
def test_a_mirror_that_is_a_real_registry(plain: Served, configure, tmp_path: Path, store: Path) -> None:
    picture = layouts.picture(70)
    serving.put(plain, layouts.write(tmp_path / "source", "image", picture), "hub/library/tiny:1")
    configure(
        '[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n'
        f'[[registry.mirror]]\nlocation = "{plain.host}/hub"\n'
    )
    assert _core.image_pull(store, "tiny:1") == picture.digest
