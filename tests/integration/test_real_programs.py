"""Real programs inside limits: a compiler, and this machine's Python with an extension module that it just made."""

from __future__ import annotations

import sys
import sysconfig

import pytest

import pycontainer as pc
from pace import patience
from programs.loads import MIB
from pycontainer import Limits, Reason

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")

# The stable ABI (3.2), declared by hand: a machine that runs Python need not have its headers.
MODULE = r"""
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
typedef struct { long references; void *kind; } Object;
extern Object *PyModule_Create2(void *, int), *PyLong_FromLong(long), *PyErr_NoMemory(void);
extern long PyLong_AsLong(Object *);

static Object *hold(Object *self, Object *mib)
{
    long count = PyLong_AsLong(mib);
    for (long i = 0; i < count; i++) {
        char *block = malloc(1 << 20);
        if (!block)
            return PyErr_NoMemory();
        memset(block, 1, 1 << 20);
    }
    return PyLong_FromLong(count);
}

static struct { const char *name; void *function; int flags; const char *doc; } methods[] = {
    {"hold", hold, 8 /* METH_O */, 0}, {0}
};
static struct {
    Object base; void *init; long index; void *copy;
    const char *name, *doc; long size; void *methods, *slots, *traverse, *clear, *free;
} module = {{1, 0}, 0, 0, 0, "held", 0, -1, methods};

Object *PyInit_held(void) { return PyModule_Create2(&module, 3 /* PYTHON_ABI_VERSION */); }
"""

SCRIPT = f"""
set -e
cd /tmp
cc -O1 -Wall -Werror -shared -fPIC -o held{SUFFIX} held.c
"$0" -c 'import held, decimal, json; print(json.dumps([held.hold(5), str(decimal.Decimal(1) / 3)]), flush=True)'
"$0" -c 'import held; print(held.hold(int(__import__("sys").argv[1])), flush=True)' "$1"
"""
ANSWER = f'[5, "0.{"3" * 28}"]'


def compile_and_hold(mib: int, **parameters: object) -> pc.Result[str]:
    command = ["sh", "-c", SCRIPT, sys.executable, str(mib)]
    return pc.run(command, files={"/tmp/held.c": MODULE.encode()}, text=True, timeout=patience(30), **parameters)


@pytest.mark.vm
@pytest.mark.requires("userns", "program:cc")
def test_a_compiler_and_an_extension_module_run_inside() -> None:
    result = compile_and_hold(20, limits=Limits(rlimits={"nofile": 256}, output="1MiB"))
    assert (result.returncode, result.stdout.split("\n")) == (0, [ANSWER, "20", ""]), result.stderr


@pytest.mark.vm
@pytest.mark.requires("userns", "program:cc", "controller:memory", "controller:pids", "controller:cpu")
def test_the_same_in_groups_and_the_extension_module_meets_the_limit() -> None:
    """What C takes with malloc counts as everything else; what fits runs to its end."""
    limits = Limits(memory="192MiB", swap=0, pids=32, cpus=2, cpu_time=patience(30))
    fits = compile_and_hold(20, limits=limits)
    assert (fits.returncode, fits.stdout.split("\n")) == (0, [ANSWER, "20", ""]), fits.stderr
    assert fits.usage.memory_peak is not None
    assert 20 * MIB <= fits.usage.memory_peak <= 192 * MIB
    assert {fits.enforced[name].state for name in ("memory", "swap", "pids", "cpus", "cpu_time")} == {"held"}
    bursts = compile_and_hold(400, limits=limits)
    assert (bursts.reason, bursts.returncode, bursts.stdout) == (Reason.MEMORY, -9, ANSWER + "\n")
