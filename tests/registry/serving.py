"""Debian's docker-registry on loopback, and a certificate authority of this test run's own."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pace

USER, PASSWORD = "tester", "correct horse"


@dataclass
class Served:
    """A registry that runs."""

    host: str
    log: Path
    authority: Path | None = None
    has_password: bool = False

    def requests(self, pattern: str) -> list[str]:
        """Lines of its log that were requests of this form ("GET /v2/a/blobs/").

        It writes a line after its answer: so wait until that of one more request is there.
        """
        mark = f"/v2/?mark={time.monotonic_ns()}"
        with socket.create_connection(self.host.split(":")) as connection:
            connection.sendall(f"GET {mark} HTTP/1.0\r\n\r\n".encode())
            connection.recv(100)
        end = time.monotonic() + pace.patience(5)
        while mark not in self.log.read_text() and time.monotonic() < end:
            time.sleep(0.01)
        return [line for line in self.log.read_text().splitlines() if re.search(f'"{pattern}', line)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def authority(place: Path) -> tuple[Path, Path, Path]:
    """(certificate of the authority, certificate of localhost, its key)."""
    place.mkdir(parents=True, exist_ok=True)

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=place, check=True, capture_output=True)

    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "ca.key",
        "-out", "ca.crt", "-days", "2", "-subj", "/CN=test authority",
    )  # fmt: skip
    for name, extension in (
        ("localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1,DNS:r.example"),
        ("client", "extendedKeyUsage=clientAuth"),
    ):
        (place / f"{name}.ext").write_text(extension)
        openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key",
            "-out", f"{name}.csr", "-subj", f"/CN={name}",
        )  # fmt: skip
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", f"{name}.crt", "-days", "2", "-extfile", f"{name}.ext",
        )  # fmt: skip
    return place / "ca.crt", place / "localhost.crt", place / "localhost.key"


@contextlib.contextmanager
def registry(
    place: Path, *, tls: tuple[Path, Path, Path] | None = None, password: bool = False, clients: bool = False
) -> Iterator[Served]:
    place.mkdir(parents=True, exist_ok=True)
    port = free_port()
    lines = [
        "version: 0.1", "log: {level: info}", f"storage: {{filesystem: {{rootdirectory: {place / 'data'}}}}}",
        "http:", f"  addr: 127.0.0.1:{port}",
    ]  # fmt: skip
    if tls:
        lines += ["  tls:", f"    certificate: {tls[1]}", f"    key: {tls[2]}"]
        lines += [f"    clientcas: [{tls[0]}]"] if clients else []
    if password:
        made = subprocess.run(["htpasswd", "-nbBC", "5", USER, PASSWORD], check=True, capture_output=True, text=True)
        (place / "htpasswd").write_text(made.stdout)
        lines += ["auth:", "  htpasswd:", "    realm: test", f"    path: {place / 'htpasswd'}"]
    (place / "config.yml").write_text("\n".join(lines) + "\n")
    log = place / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(["docker-registry", "serve", "config.yml"], cwd=place, stdout=out, stderr=out)
    try:
        wait_for(port, process)
        yield Served(f"localhost:{port}", log, tls[0] if tls else None, password)
    finally:
        process.kill()
        process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + pace.patience(20)
    while time.monotonic() < end:
        assert process.poll() is None, "docker-registry has ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError("docker-registry does not listen")


def skopeo(*words: str) -> None:
    done = subprocess.run(["skopeo", "--insecure-policy", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def put(served: Served, layout: Path, name: str, *more: str) -> None:
    """An image of a layout into a registry, as skopeo does it."""
    words = ["--dest-tls-verify=false"]
    if served.has_password:
        words.append(f"--dest-creds={USER}:{PASSWORD}")
    skopeo("copy", *words, *more, f"oci:{layout}:image", f"docker://{served.host}/{name}")


def get(served: Served, name: str, layout: Path, *more: str) -> None:
    words = ["--src-tls-verify=false"]
    if served.has_password:
        words.append(f"--src-creds={USER}:{PASSWORD}")
    skopeo("copy", *words, *more, f"docker://{served.host}/{name}", f"oci:{layout}:image")
