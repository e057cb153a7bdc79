"""Programs of the tests that run in containers: C in one file each, static, since an image may have no libc."""

from __future__ import annotations

import subprocess
from pathlib import Path


def compiled(source: Path, target: Path) -> Path:
    argv = ["cc", "-O1", "-static", "-Wall", "-Werror", "-o", str(target), str(source)]
    subprocess.run(argv, check=True)
    target.chmod(0o755)
    return target
