"""ADD of a URL: fetched by http or https into a file without a name, with its digest. Nothing else of a build fetches files."""

from __future__ import annotations

import hashlib
import os
import tempfile
from email.utils import parsedate_to_datetime

from pycontainer._build.commands import url_name
from pycontainer._build.source import Mistake, quoted
from pycontainer._errors import DigestMismatch
from pycontainer._text import TYPE_CHECKING

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from pycontainer._build.source import Word

_TIMEOUT = 60
_CHUNK = 1 << 18
_SIZE_MAX = 16 << 30


class Fetched:
    """What a URL was. `time`: when it was last changed, as the server says; seconds since 1970."""

    def __init__(self, name: str, fd: int, digest: str, time: int | None) -> None:
        self.name, self.fd, self.digest, self.time = name, fd, digest, time

    def close(self) -> None:
        """Let go of it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def fetch(url: Word, checksum: str | None, *, allowed: bool) -> Fetched:
    """Fetch `url`.

    Raises:
        Mistake: the build has no network, the server cannot be reached or says no.
        DigestMismatch: it is not what `checksum` says.
    """
    from http.client import HTTPException
    from urllib.error import URLError
    from urllib.request import Request, build_opener

    if not allowed:
        raise Mistake(f"ADD would fetch {quoted(url)}, and this build has no network", url, 'say network="host"')
    request = Request(url, headers={"User-Agent": "pycontainer"})  # noqa: S310 - is_url: http or https
    with tempfile.TemporaryFile() as file:
        hash_ = hashlib.sha256()
        try:
            with build_opener().open(request, timeout=_TIMEOUT) as answer:
                size = 0
                while piece := answer.read(_CHUNK):
                    size += len(piece)
                    if size > _SIZE_MAX:
                        raise Mistake(f"{quoted(url)} is longer than {_SIZE_MAX} bytes", url)
                    hash_.update(piece)
                    file.write(piece)
                time = _time(answer)
        except (URLError, HTTPException, OSError) as error:
            raise Mistake(f"{quoted(url)} cannot be fetched: {error}", url) from None
        file.flush()
        digest = f"sha256:{hash_.hexdigest()}"
        if checksum is not None and checksum != digest:
            raise DigestMismatch(f"{quoted(url)} is {digest}, not {checksum}")
        fd = os.dup(file.fileno())
        os.lseek(fd, 0, os.SEEK_SET)
        return Fetched(url_name(url), fd, digest, time)


def _time(answer: HTTPResponse) -> int | None:
    try:
        return int(parsedate_to_datetime(answer.headers.get("Last-Modified", "")).timestamp())
    except ValueError:
        return None
