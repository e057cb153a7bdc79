"""Judges a program that nobody trusts against inputs and outputs, as an online judge does: judge.py PROGRAM.py CASES

CASES is a directory with 1.in, 1.out, 2.in, 2.out, ... Each case runs in a container of its own.
"""

import sys
from pathlib import Path

import pycontainer as pc

LIMITS = pc.Limits(wall_time=10, pids=32, disk="16MiB", output="1MiB")
GROUPS = pc.Limits(memory="128MiB", swap=0, cpu_time=2)  # held by control groups, where this user has them
WORDS = {
    pc.Reason.MEMORY: "memory limit",
    pc.Reason.CPU_TIME: "time limit",
    pc.Reason.TIMEOUT: "time limit",
    pc.Reason.OUTPUT: "output limit",
    pc.Reason.SIGNALED: "crashed",
}


def judge(program: bytes, given: bytes, wanted: bytes) -> str:
    """The verdict on one case, in a word or two."""
    r = pc.run(
        ["python3", "-I", "/in/main.py"],
        files={"/in/main.py": program},
        input=given,
        limits=LIMITS | GROUPS,
        security=pc.Security.strict(),
        degrade=["memory", "swap", "cpu_time", "oom_group"],
    )
    if r.reason in WORDS:
        return WORDS[r.reason]
    if r.returncode:
        return "runtime error"
    return "accepted" if r.stdout.split() == wanted.split() else "wrong answer"


def main(program: str, cases: str) -> int:
    """Judge all cases; 0 if each was accepted."""
    source = Path(program).read_bytes()
    verdicts = []
    for given in sorted(Path(cases).glob("*.in")):
        verdicts.append(judge(source, given.read_bytes(), given.with_suffix(".out").read_bytes()))
        print(f"{given.stem}: {verdicts[-1]}")
    return 0 if verdicts and set(verdicts) == {"accepted"} else 1


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
