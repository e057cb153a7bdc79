"""What a build takes from elsewhere: bases of registries and mirrors, files by http and https, the network of a RUN."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import pycontainer as pc
from building import Builder, failing
from registry import serving
from registry.serving import Served

pytestmark = pytest.mark.requires("userns")
DATE = "Sun, 09 Sep 2001 01:46:40 GMT"


class Site:
    """A web server of this test's own.

    Attributes:
        files: content by path; a str is where to go instead.
        asked: the paths that were, in their order.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes | str] = {}
        self.asked: list[str] = []
        self.url = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.path)
        content = self.files.get(handler.path)
        handler.send_response(404 if content is None else 302 if isinstance(content, str) else 200)
        if isinstance(content, str):
            handler.send_header("Location", content)
        body = content if isinstance(content, bytes) else b""
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Last-Modified", DATE)
        handler.end_headers()
        handler.wfile.write(body)


def served(site: Site, tls: tuple[Path, Path, Path] | None = None) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls[1], tls[2])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    site.url = f"http{'s' if tls else ''}://localhost:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    server = served(made)
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def online(builder: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    """Who may ask registries, and finds nothing that this machine's user has configured."""
    monkeypatch.delenv("PYCONTAINER_OFFLINE")
    (tmp_path / "registries.conf").write_text("")
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "SSL_CERT_FILE", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    return builder


# ---- bases -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Iterator[Served]:
    """With the base as `team/base:1`."""
    with serving.registry(tmp_path_factory.mktemp("registry")) as made:
        source = f"oci:{template / 'images'}:docker.io/library/base:1"
        serving.skopeo("copy", "--dest-tls-verify=false", source, f"docker://{made.host}/team/base:1")
        yield made


def states(builder: Builder) -> set[str]:
    """What was told of blobs."""
    return {one.state for one in builder.events if hasattr(one, "state")}


@pytest.mark.requires("program:docker-registry", "program:skopeo")
def test_a_base_is_pulled_by_the_build_and_told_of(online: Builder, registry: Served) -> None:
    subprocess.run(["rm", "-rf", str(online.store)], check=True)
    name = f"{registry.host}/team/base:1"
    text = f"FROM {name} AS one\nRUN echo x > /x\nFROM {name}\nCOPY --from=one /x /\n"
    image = online.build(text)
    assert states(online) >= {"downloading", "done"}
    assert image.open("/x").read() == b"x\n"
    blobs = registry.requests("GET /v2/team/base/blobs/")
    assert len(blobs) == 2, blobs  # the config, and one layer

    # The second time it is there, and so is what came of it.
    before = len(registry.requests(".* /v2/team/"))
    assert online.build(text) == image
    assert online.kinds() == ["cached"]
    assert "downloading" not in states(online)
    assert len(registry.requests(".* /v2/team/")) == before
    # An image that only a COPY names is pulled as well.
    pc.Image.get(f"{registry.host}/team/base:1").remove()
    copied = online.build(f"FROM scratch\nCOPY --from={registry.host}/team/base:1 /etc/passwd /")
    assert list(copied.files()) == ["/passwd"]


@pytest.mark.requires("program:docker-registry", "program:skopeo")
def test_a_base_comes_from_the_mirror_of_its_registry(online: Builder, registry: Served, tmp_path: Path) -> None:
    mirror = f'[[registry.mirror]]\nlocation = "{registry.host}/team"\n'
    (tmp_path / "registries.conf").write_text(f'[[registry]]\nlocation = "registry.invalid"\n{mirror}')
    image = online.build("FROM registry.invalid/base:1\nRUN echo mirrored > /m")
    assert image.open("/m").read() == b"mirrored\n"
    assert pc.Image.get("registry.invalid/base:1").layers == image.layers[:-1]
    # What the mirror does not have is asked of the registry itself, which is nowhere.
    with pytest.raises(pc.RegistryError, match=r"registry\.invalid/none") as caught:
        online.build("FROM scratch AS other\nFROM registry.invalid/none:1\nRUN true")
    assert caught.value.__notes__ == ["Dockerfile:2: registry.invalid/none:1"]
    error = failing(lambda: online.build(f"FROM {registry.host}/team/none:1\nRUN true"))
    assert (error.line, error.step) == (1, f"FROM {registry.host}/team/none:1")


# ---- ADD of a URL ------------------------------------------------------------------------------------------------


def sum_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_add_fetches_what_the_checksum_says(builder: Builder, site: Site) -> None:
    site.files = {"/dir/file.txt": b"content", "/moved": "/dir/file.txt"}
    text = f"ADD --checksum={sum_of(b'content')} {site.url}/dir/file.txt /got/\nADD {site.url}/moved /other"
    image = builder.build(text, network="host")
    assert (image.open("/got/file.txt").read(), image.open("/other").read()) == (b"content", b"content")
    shown = pc.run(["stat", "-c", "%a %u %Y", "/got/file.txt"], image=image, text=True, check=True).stdout
    assert shown == "600 0 1000000000\n"  # as docker makes it: of Last-Modified

    # It is asked again, and is the same step as long as it is the same bytes.
    asked = len(site.asked)
    assert builder.build(text, network="host") == image
    assert builder.kinds("ADD") == ["cached", "cached"]
    assert len(site.asked) == 2 * asked
    site.files["/dir/file.txt"] = b"another"
    error = failing(lambda: builder.build(text, network="host"))
    assert error.line == 2
    assert isinstance(error.__cause__, pc.DigestMismatch)
    for word in ("file.txt", sum_of(b"content"), sum_of(b"another")):
        assert word in str(error)
    builder.build(f"ADD {site.url}/moved /other", network="host")
    assert builder.kinds("ADD") == ["done"]


def test_add_says_why_it_cannot_fetch(builder: Builder, site: Site) -> None:
    nobody = f"http://localhost:{serving.free_port()}/x"
    for url, words in ((f"{site.url}/none", ["404", "/none"]), (nobody, ["refused", nobody])):
        error = failing(lambda url=url: builder.build(f"ADD {url} /", network="host"))  # type: ignore[misc]
        assert error.line == 2
        for word in words:
            assert word in str(error)
    site.files = {"/file": "file:///etc/passwd", "/loop": "/loop"}
    for name in site.files:
        failing(lambda name=name: builder.build(f"ADD {site.url}{name} /x", network="host"))  # type: ignore[misc]
    assert "no network" in str(failing(lambda: builder.build(f"ADD {site.url}/x /")))
    assert site.asked.count("/x") == 0


@pytest.mark.requires("program:openssl")
def test_add_by_https_trusts_whom_the_machine_trusts(
    builder: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, site = serving.authority(tmp_path / "authority"), Site()
    server = served(site, tls)
    site.files = {"/f": b"by TLS"}
    try:
        error = failing(lambda: builder.build(f"ADD {site.url}/f /f", network="host"))
        assert "certificate" in str(error).lower()
        assert site.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tls[0]))
        image = builder.build(f"ADD --checksum={sum_of(b'by TLS')} {site.url}/f /f", network="host")
        assert image.open("/f").read() == b"by TLS"
    finally:
        server.shutdown()
        server.server_close()


# ---- the network of a RUN ----------------------------------------------------------------------------------------


def test_a_run_has_the_network_that_was_asked_for(builder: Builder, site: Site) -> None:
    site.files = {"/f": b"fetched\n"}
    get = f"/bin/busybox wget -q -O - {site.url.replace('localhost', '127.0.0.1')}/f"
    builder.build(f"RUN {get}\nRUN --network=host {get}\nRUN --network=default {get}", network="host", cache=False)
    assert builder.output() == "fetched\n" * 3
    # Less can be asked for, and more cannot.
    builder.build(f"RUN --network=none {get} || echo alone", network="host", cache=False)
    assert "alone\n" in builder.output()
    asked = len(site.asked)
    builder.build(f"RUN {get} || echo alone", cache=False)
    assert "alone\n" in builder.output()
    error = failing(lambda: builder.build(f"RUN --network=host {get}"))
    assert "network" in str(error)
    assert len(site.asked) == asked
