"""Where this machine's programs, this interpreter and its packages lie: what Image.host() shows."""

from __future__ import annotations

import os
import site
import sys

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt")


def interpreter_directories() -> tuple[str, ...]:
    """Where this interpreter, its standard library and its packages lie, outside the system's directories."""
    prefixes = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
    # Root's own packages are where they are looked for inside, and with their owners, as a bind would not show them.
    own = user_site()
    if own and own[0] == own[1] and os.geteuid() == 0:
        prefixes.append(own[0])
    real = [os.path.realpath(sys.executable)] if sys.executable else []
    prefixes += [os.path.dirname(os.path.dirname(path)) for path in real]
    wanted = dict.fromkeys(os.path.abspath(path) for path in prefixes if path and path != "/")
    return tuple(path for path in wanted if not _in_system(path) and os.path.isdir(path))


def user_site() -> tuple[str, str] | None:
    """Where this user's own packages lie, and where an interpreter inside looks for them: the home there is /root."""
    base, found = site.USER_BASE, site.USER_SITE
    if not (site.ENABLE_USER_SITE and base and found and os.path.isdir(found)):
        return None
    below = os.path.relpath(found, base)
    return None if below.startswith("..") else (os.path.abspath(found), os.path.join("/root/.local", below))


def _in_system(path: str) -> bool:
    return any(path == root or path.startswith(root + "/") for root in _SYSTEM)


def interpreter_path() -> tuple[str, ...]:
    return (os.path.dirname(os.path.abspath(sys.executable)),) if sys.executable else ()
