"""Coverage-guided fuzzing of what reads others' bytes: libFuzzer for the native side, atheris for Dockerfiles.

    fuzz.py [--seconds N] [--corpus DIRECTORY] [TARGET...]

Each target runs for N seconds on a copy of its seeds (rust/fuzz/seeds; those of layers are made), or of what an earlier
run kept in DIRECTORY. A panic, a broken promise of the target, ten seconds for one input, or 1 GiB of memory: that is a
finding, its input is kept in DIRECTORY, and the exit code is 1. Rust's coverage needs no nightly compiler, since the
pass is LLVM's own; there is no AddressSanitizer.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FUZZ = ROOT / "rust/fuzz"
NATIVE = ("layer", "documents", "words", "answers", "registries")
TEXTS = ("dockerfile", "ignore")
PASSES = (
    "-Cpasses=sancov-module",
    *(f"-Cllvm-args=-sanitizer-coverage-{word}" for word in ("level=4", "inline-8bit-counters", "pc-table")),
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
)
BOUNDS = ("-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=0")
LONGEST = {"layer": 65536, "documents": 16384, "dockerfile": 4096}


def build() -> Path:
    """The native targets; the directory with their programs."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "fuzz"
    flags = " ".join(["--cfg", "fuzzing", *PASSES])
    environ = {**os.environ, "RUSTFLAGS": flags, "CARGO_TARGET_DIR": str(target)}
    # Build scripts and macros are for this machine as well: without a target they would want libFuzzer too.
    host = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    triple = str(re.findall(r"^host: (.*)$", host, re.MULTILINE)[0])
    command = ["cargo", "build", "--release", "--target", triple, "--manifest-path", str(FUZZ / "Cargo.toml")]
    subprocess.run(command, env=environ, check=True)
    return target / triple / "release"


def seeded(target: str, corpus: Path) -> Path:
    directory = corpus / target
    directory.mkdir(parents=True, exist_ok=True)
    if target == "layer":
        subprocess.run([sys.executable, str(FUZZ / "layers.py"), str(directory)], check=True)
    else:
        shutil.copytree(FUZZ / "seeds" / target, directory, dirs_exist_ok=True)
    return directory


def run(target: str, programs: Path | None, corpus: Path, seconds: int) -> bool:
    """Print a line of what it came to; False for a finding."""
    directory = seeded(target, corpus)
    program = [sys.executable, str(FUZZ / "texts.py"), target] if programs is None else [str(programs / target)]
    words = [f"-max_total_time={seconds}", f"-max_len={LONGEST.get(target, 2048)}"]
    command = [*program, str(directory), *BOUNDS, *words, f"-artifact_prefix={corpus}/{target}-"]
    with tempfile.TemporaryDirectory(prefix="pycontainer-fuzz-", dir="/dev/shm") as scratch:
        environ = {**os.environ, "TMPDIR": scratch}
        ended = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace", env=environ)
    said = dict(re.findall(r"^stat::(\w+): +(\d+)$", ended.stderr, re.MULTILINE))
    inputs, kept = said.get("number_of_executed_units", "no"), len(list(directory.iterdir()))
    print(f"{target}: {inputs} inputs, {kept} kept, exit code {ended.returncode}", flush=True)
    if ended.returncode:
        print(ended.stderr[-8000:])
    return ended.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--corpus", type=Path, default=ROOT / "dist/fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NATIVE + TEXTS)}; all by default")
    options = parser.parse_args()
    targets = options.targets or [*NATIVE, *TEXTS]
    if unknown := set(targets) - {*NATIVE, *TEXTS}:
        parser.error(f"no target {min(unknown)!r}: {', '.join(NATIVE + TEXTS)}")
    native = build() if set(targets) & set(NATIVE) else None
    held = [run(name, native if name in NATIVE else None, options.corpus, options.seconds) for name in targets]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
