"""The store of images, by names and digests: what Image asks of the native side. Keeps nothing."""

from __future__ import annotations

import os
import stat
import time
from contextlib import contextmanager, suppress

from pycontainer import _log
from pycontainer._errors import ImageNotFound, NoSpaceError
from pycontainer._image_config import document, labels as labels_of
from pycontainer._native import core
from pycontainer._progress import watching
from pycontainer._text import TYPE_CHECKING, shown
from pycontainer._types import encode, parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, BinaryIO

# Of the words of run(): with it in the environment nothing is asked of any registry.
OFFLINE = "PYCONTAINER_OFFLINE"
POLICIES = ("missing", "always", "never")
# What was unpacked, by store and manifest: a start need not read the documents again. That a layer was removed
# meanwhile is found out when it is opened.
_unpacked: dict[tuple[str, str], list[str]] = {}


def store() -> str:
    """Return where it lies: $PYCONTAINER_ROOT, or the user's or the system's default."""
    return str(core().store_root())


def private(name: str) -> str:
    """Return a directory of the store's, made on first use."""
    path = os.path.join(store(), name)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    seen = os.lstat(path)
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid() or seen.st_mode & 0o022:
        raise PermissionError(1, "it must be a directory of this user that nobody else can write to", path)
    return path


def resolve(reference: object, policy: object, platform: object, progress: object, auth: object) -> tuple[Any, ...]:
    """Return (reference, digest, manifest, config, size) of an image, pulled first where the policy says so."""
    if not isinstance(reference, str):
        raise TypeError(f"reference must be a str, not {type(reference).__name__}")
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(map(repr, POLICIES))}, not {shown(policy)}")
    if platform is not None and not isinstance(platform, str):
        raise TypeError(f"platform must be a str, not {type(platform).__name__}")
    core().platform_parse(platform)
    name, familiar, _ = core().reference_parse(reference)
    found = None if policy == "always" else core().image_find(store(), reference, platform)
    if found is not None:
        return tuple(found)
    if policy == "never" or os.environ.get(OFFLINE) == "1":
        why = "" if policy == "never" else f", and {OFFLINE}=1 forbids to ask a registry"
        raise ImageNotFound(f"the store has no image {familiar}{why}")
    return (name, *_pull(name, platform, progress, auth)[1:])


def _pull(name: str, platform: str | None, progress: object, auth: object) -> tuple[Any, ...]:
    with held(), watching(progress, f"pull {name}") as events:
        digest: str = core().image_pull(store(), name, platform, credentials(auth), events)
        layers(digest, events)
        return opened(digest)


def credentials(auth: object) -> tuple[str, str] | None:
    """Check `auth`: a user and a password."""
    if auth is None:
        return None
    if not (isinstance(auth, tuple) and len(auth) == 2 and all(isinstance(part, str) for part in auth)):
        raise TypeError("auth must be a tuple of two str: user and password")
    return auth


def opened(digest: str) -> tuple[Any, ...]:
    """Return the row of an image by the digest of its manifest."""
    return tuple(core().image_open(store(), digest))


def rows() -> list[tuple[Any, ...]]:
    """Return a row for each name."""
    return [tuple(row) for row in core().image_all(store())]


def layers(digest: str, events: Any = None) -> list[str]:
    """Return the directories of its layers, the lowest first, unpacked now where they were not."""
    key = (store(), digest)
    # Another process may have removed it; all that is known of it here goes with the highest.
    if key not in _unpacked or not os.path.isdir(_unpacked[key][-1]):
        _unpacked[key] = [os.fspath(path) for path in core().image_layers(key[0], digest, events)]
        _log.of_left_out(core(), digest, _unpacked[key])
    return _unpacked[key]


def load(path: str, progress: object) -> list[tuple[list[str], tuple[Any, ...]]]:
    """Load the images of a file or layout, and unpack them: (names, row) of each."""
    with held(), watching(progress, f"load {os.path.basename(path)}") as events:
        loaded = core().image_load(store(), path, events)
        for _, digest in loaded:
            layers(digest, events)
        return [(names, opened(digest)) for names, digest in loaded]


@contextmanager
def held() -> Iterator[None]:
    """Hold what is being brought: whoever removes its name meanwhile, it is whole until it is handed over.

    Where the disk was full, what was brought so far is no name's; without it there is room again.
    """
    hold = core().store_hold(store())
    try:
        yield
    except NoSpaceError:
        hold.release()
        collect()
        raise
    finally:
        hold.release()


def save(digest: str, reference: str | None, path: str, form: str) -> None:
    """Write an image to a tar."""
    core().image_save(store(), digest, reference, path, form)


def push(digest: str, reference: str, progress: object, auth: object) -> None:
    """Send an image to a registry."""
    with watching(progress, f"push {reference}") as events:
        core().image_push(store(), digest, reference, credentials(auth), events)


def tag(digest: str, reference: object) -> str:
    """Give an image a name; return it in full."""
    if not isinstance(reference, str):
        raise TypeError(f"reference must be a str, not {type(reference).__name__}")
    return str(core().image_tag(store(), digest, reference))


def untag(reference: str) -> bool:
    """Take a name away, and what nothing needs any more."""
    was = bool(core().image_untag(store(), reference))
    collect()
    return was


def collect() -> int:
    """Remove what no name and no step of a build needs, unless somebody is at work; return the bytes of those blobs."""
    freed = core().image_collect(store())
    _unpacked.clear()
    return 0 if freed is None else int(freed[1])


def verify(digest: str) -> None:
    """Compute all digests of an image again."""
    core().image_verify(store(), digest)


def prune(older_than: object, unused: bool, labels: Mapping[str, str] | None) -> list[str]:
    """Remove images by age, labels and use, and what none needs."""
    age = None if older_than is None else parse_duration(older_than, "older_than")
    removed = []
    for name, digest, _, config, _ in rows():
        whole = document(config)
        young = age is not None and time.time() - made_at(whole) < age
        has = labels_of(whole)
        other = any(key not in has or (value and has[key] != value) for key, value in (labels or {}).items())
        if young or other or (unused and core().image_in_use(store(), digest)):
            continue
        if core().image_untag(store(), name):
            removed.append(name)
    collect()
    if not labels:
        core().archives_drop(store(), 0.0 if age is None else age)
    return removed


def made_at(config: Mapping[str, Any]) -> float:
    """Return when a config says that the image was made, in seconds since 1970; 0 where it does not."""
    from datetime import datetime  # noqa: PLC0415 - only who prunes by age pays for it

    try:
        return datetime.fromisoformat(str(config.get("created", "")).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


def open_file(roots: list[str], path: Any) -> BinaryIO:
    """Open a regular file of a union of directories."""
    raw = encode(path, "path")
    fd = core().image_file(roots, raw)
    return os.fdopen(fd, "rb")


def walk(roots: list[str]) -> Iterator[str]:
    """Yield all paths of a union of directories."""
    for path in core().image_paths(roots):
        yield os.fsdecode(path)
