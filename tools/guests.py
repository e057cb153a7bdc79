"""What the emulated machines of the session `vm` run: pytest's words for each part, and the script with all of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import house

# The image is thrown away. A test that hangs is ended after ten minutes; where that needs more than a signal its stacks
# are printed before.
PYTEST = ("--timeout=600", "-o", "faulthandler_timeout=500", "-p", "no:cacheprovider")
PACE = "5"  # what the tests may take longer: containers do 10 to 20 times, waiting does not
# In the quick form nothing is repeated more often, and of each test two cases are run: a kill takes 1 to 4 seconds
# there, and CI has an hour for all.
MOST, CASES = "6", "2"
# There each test is run by one of the two; by both what names who runs it. Root has more of those, and fewer quarters.
TURNS = {"root": "1", "user": "023"}
LAST_WORDS = "ps -eo pid,ppid,user,stat,wchan:30,etime,args; dmesg | tail -n 40"


def seconds(quick: bool) -> int:
    """What a guest has after its boot; a quick run takes half of it on two idle cores."""
    return 1500 if quick else 30000


def parts(quick: bool, named: bool, words: list[str]) -> dict[str, list[str]]:
    """{part of a run: pytest's words}: only the full form has two, since one call repeats all or a tenth."""
    if quick:
        return {"": [*PYTEST, "--quick", "-m", "vm", *([] if named else ["tests"]), *words]}
    if named:
        return {"": [*PYTEST, *words]}
    return {"-marked": [*PYTEST, "-m", "vm", "tests", *words], "": [*PYTEST, "--quick", "-m", "not vm", *words]}


def narrowed(words: list[str], collected: str) -> list[str]:
    """`tests` as the files of what was collected: to import the others takes minutes there."""
    files = dict.fromkeys(re.findall(r"^(tests/\S+?\.py)::", collected, re.MULTILINE))
    return [part for word in words for part in (files if word == "tests" else [word])]


def script(stage: house.Stage, results: Path, who: str, parts: dict[str, list[str]], quick: bool, named: bool) -> Path:
    """All parts in one boot; a failure is the exit code, but the others take place too."""
    settings = {"PYCONTAINER_TEST_TMP": f"{stage.path}/tmp", "PYCONTAINER_TEST_PACE": PACE, **house.passed_on()}
    settings |= {"PYCONTAINER_TEST_MOST": MOST, "PYCONTAINER_TEST_CASES": CASES} if quick else {}
    settings |= {"PYCONTAINER_TEST_TURNS": TURNS[who]} if quick and not named else {}
    # The store is on the disk of the stage: the guest's root is an overlay, which carries no layers.
    settings |= {"PYTHONDONTWRITEBYTECODE": "1", "PYCONTAINER_ROOT": f"{stage.path}/tmp/store"}
    begin = ["env"] if who == "root" else [str(stage.python), "tools/delegate.py", house.USER]
    begin += [f"{name}={value}" for name, value in settings.items()] + (["--"] if who == "user" else [])

    def runs() -> Iterator[str]:
        for part, words in parts.items():
            argv = house.pytest_command(stage, *words, f"--basetemp={stage.path}/tmp/pytest")
            yield f"{shlex.join([*begin, *argv])} || code=$?"
            yield f"cp {stage.results}/junit.xml {results}/vm-{who}{part}.xml; rm -f {stage.results}/junit.xml"

    lines = [
        # Tests look whether they are there, and skip where they are not: loop devices, a scheduler that knows weights.
        "modprobe -q -a loop bfq",
        f"cd {stage.checkout} && mkdir -p -m 1777 {stage.path}/tmp || exit 1",
        f"chown -R {'root' if who == 'root' else house.USER}: {stage.results}",
        "code=0",
        # A guest that comes to no end is killed: before that it says what it waits for.
        f"(sleep {seconds(quick) - 60}; {LAST_WORDS}) & watch=$!",
        *runs(),
        "kill $watch",
        "exit $code",
    ]
    path = results / "tests.sh"
    path.write_text("\n".join(lines) + "\n")
    return path
