"""The command line: docker's words for the public package. Uses nothing that a program could not use too.

    pycontainer run [OPTIONS] IMAGE [COMMAND...]
    pycontainer exec [OPTIONS] CONTAINER COMMAND...
    pycontainer ps [OPTIONS]
    pycontainer stats [OPTIONS] [CONTAINER...]
    pycontainer images | pull | load | save
    pycontainer build [OPTIONS] PATH
    pycontainer builder prune [OPTIONS]
    pycontainer doctor [--format json]

Exit codes are docker's: the command's own; 125 where the container could not be started, 126 not executable,
127 not found, 128+n for signal n; 130 after Ctrl-C; 1 for -i -t without a terminal, for words that are missing or too
many, and where exec or stats find no container; 126 where a container does not run what exec wants.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys

import pycontainer as pc
from pycontainer import _cli_build, _cli_containers, _cli_images, _cli_stats
from pycontainer._cli_attach import Carrier, size as terminal_size, streams
from pycontainer._cli_results import as_dict, verdict
from pycontainer._cli_values import NAMESPACE_OPTIONS, environment, run_options
from pycontainer._cli_words import pids, port, size, swap_size, tmpfs, ulimit, volume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

STDIN = 0
REFUSED, FAILED, NOT_EXECUTABLE, NOT_FOUND, INTERRUPTED, UNREAD = 1, 125, 126, 127, 130, 141
# Rows of doctor() without which a default run does not start; the others are limits, or do their best.
NEEDED = frozenset(
    {
        "namespace:cgroup", "namespace:ipc", "namespace:mnt", "namespace:net", "namespace:pid", "namespace:user",
        "namespace:uts", "user_namespace", "capabilities", "no_new_privileges", "seccomp", "root", "masked_paths",
        "system_calls", "keeper",
    }
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. `argv` is without the program's name; None is sys.argv's."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = parse(words)
    except SystemExit as end:
        return int(end.code or 0)
    try:
        return int(arguments.action(arguments))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # nobody reads it any more, as `| head`: for others that is SIGPIPE
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except (pc.Error, OSError, ValueError, TypeError) as error:
        return _failed(error, arguments.format)


def _failed(error: Exception, form: str) -> int:
    code = FAILED
    if isinstance(error, (_NoTerminal, _cli_containers.NotThere)):
        code = REFUSED
    if isinstance(error, (pc.CommandNotFound, pc.CommandNotExecutable, _NotRun)):
        code = NOT_FOUND if isinstance(error, pc.CommandNotFound) else NOT_EXECUTABLE
    if form == "json":
        print(json.dumps({"error": type(error).__name__, "message": str(error), "exit_code": code}))
    else:
        print(f"pycontainer: {error}", file=sys.stderr)
    return code


# ---- words to values ---------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """A usage error is docker's 125, not argparse's 2; 1 where words are missing or too many, or no command of ours."""

    def error(self, message: str) -> NoReturn:
        known, _, words = message.partition("unrecognized arguments: ")
        many = not known and not words.startswith("-")
        self.refuse(message, REFUSED if many or message.startswith("argument COMMAND:") else FAILED)

    def refuse(self, message: str, code: int = REFUSED) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(code, f"{self.prog}: {message}\n")


def parse(words: list[str]) -> argparse.Namespace:
    """Read a command line; options end at IMAGE or CONTAINER: what follows is the command's, whatever it looks like."""
    rest: list[str] = []
    if words[:1] in (["run"], ["exec"]):
        parser = _run_parser if words[0] == "run" else _exec_parser
        end = _options_end(words[1:], parser(_Parser(add_help=False))) + 1
        words, rest = words[:end], _without_dashes(words[end:])
    if words[:1] == ["stats"]:
        words = ["stats", *_options_first(words[1:], _cli_stats.stats_parser(_Parser(add_help=False)))]
    arguments = _parser().parse_args(words)
    if arguments.action is _run:
        if not rest:
            _parser().refuse("run: IMAGE is missing; `host` is this machine's own programs")
        arguments.image, arguments.command = rest[0], _without_dashes(rest[1:])
    if arguments.action is _exec:
        arguments.container, arguments.command = rest[0] if rest else "", _without_dashes(rest[1:])
        if not arguments.command:
            _parser().refuse("exec: CONTAINER or COMMAND is missing; `pycontainer ps` lists containers")
    return arguments


def _without_dashes(words: list[str]) -> list[str]:
    return words[1:] if words[:1] == ["--"] else words


def _options_first(words: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """As docker takes them: options stand anywhere; argparse wants the other words in one piece."""
    options: list[str] = []
    others: list[str] = []
    while words:
        end = _options_end(words, parser)
        options += words[:end]
        if words[end : end + 1] == ["--"]:
            return [*options, "--", *others, *words[end + 1 :]]
        others += words[end : end + 1]
        words = words[end + 1 :]
    return [*options, *others]


def _options_end(words: list[str], parser: argparse.ArgumentParser) -> int:
    """Where IMAGE stands. Written out because argparse's own handling of `--` differs between Python versions."""
    takes_value = {flag: action.nargs != 0 for action in parser._actions for flag in action.option_strings}
    at = 0
    while at < len(words):
        word = words[at]
        if word in ("--", "-") or not word.startswith("-"):
            return at
        at += 1
        if word.startswith("--"):
            at += "=" not in word and takes_value.get(word, False)
        else:
            at += _value_follows(word[1:], takes_value)
    return at


def _value_follows(letters: str, takes_value: dict[str, bool]) -> bool:
    """-it, -m64m, -w /tmp: whether the last of the letters takes the next word."""
    for place, letter in enumerate(letters):
        if takes_value.get(f"-{letter}", False):
            return place == len(letters) - 1
    return False


def _parser() -> _Parser:
    parser = _Parser(prog="pycontainer", description="Run commands in containers.", allow_abbrev=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    usage = "pycontainer run [OPTIONS] IMAGE [COMMAND...]"
    text = "IMAGE is a reference (alpine:3.20), `host` (this machine's own programs) or a directory: ./dir or /dir."
    run = commands.add_parser(
        "run",
        usage=usage,
        help="run a command in a new container",
        description=text,
        add_help=False,
        allow_abbrev=False,
    )
    _run_parser(run).set_defaults(action=_run)
    run = commands.add_parser(
        "exec",
        usage="pycontainer exec [OPTIONS] CONTAINER COMMAND...",
        help="run a command in a container that runs",
        description="CONTAINER is a name, an id or the beginning of one, of any process of this user.",
        allow_abbrev=False,
    )
    _exec_parser(run).set_defaults(action=_exec)
    ps = commands.add_parser("ps", help="the containers of this user's processes", allow_abbrev=False)
    _cli_containers.ps_parser(ps)
    _add_format(ps)
    ps.set_defaults(action=_cli_containers.ps)
    stats = commands.add_parser("stats", help="what containers of this user's processes use", allow_abbrev=False)
    _cli_stats.stats_parser(stats)
    stats.set_defaults(action=_cli_stats.stats)
    _cli_images.add_parsers(commands, _add_format)
    _cli_build.add_parser(commands, _add_format)
    doctor = commands.add_parser(
        "doctor", help="what this machine can hold, why not, and what cures it", allow_abbrev=False
    )
    _add_format(doctor)
    doctor.set_defaults(action=_doctor)
    return parser


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("table", "json"), default="table", help="json: one object on stdout")


def _exec_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    add = parser.add_argument
    add("-e", "--env", action="append", default=[], metavar="K=V", help="K alone takes this environment's value")
    add("--env-file", action="append", default=[], metavar="FILE", help="lines of K=V, K, or # remarks")
    add("-w", "--workdir", metavar="DIR")
    add("-u", "--user", metavar="USER", help="a uid, a name, or user:group")
    add("-i", "--interactive", action="store_true", help="give the command this stdin")
    add("-t", "--tty", action="store_true", help="give the command a terminal")
    add("-d", "--detach", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(format="table")
    return parser


def _run_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """docker's names; -h is the host name there, so help is --help alone."""
    add = parser.add_argument
    parser.add_argument("--help", action="help", help="show this help")
    add("-m", "--memory", type=size, help="bytes, or a size such as 64m, 1g (1024-based)")
    add("--memory-swap", type=swap_size, metavar="SIZE", help="memory and swap together; -1 lifts it")
    add("--memory-reservation", type=size, metavar="SIZE", dest="memory_high", help="reclaimed from above this")
    add("--cpus", type=float, help="1.5 is one and a half processors' worth of time")
    add("--cpuset-cpus", metavar="LIST", help="0-3 or 0,1")
    add("--pids-limit", type=pids, metavar="N", help="tasks; -1 lifts the default of 2048")
    add("--timeout", type=float, metavar="S", help="seconds, then everything is killed")
    add("--ulimit", type=ulimit, action="append", default=[], metavar="NAME=SOFT[:HARD]")
    add("--oom-score-adj", type=int, metavar="N")
    add("-e", "--env", action="append", default=[], metavar="K=V", help="K alone takes this environment's value")
    add("--env-file", action="append", default=[], metavar="FILE", help="lines of K=V, K, or # remarks")
    add("-v", "--volume", type=volume, action="append", default=[], metavar="SRC:DST[:ro]",
        help="also :owner=UID, who owns what the container writes there")  # fmt: skip
    add("--tmpfs", type=tmpfs, action="append", default=[], metavar="DST[:size=64m,mode=1777]")
    add("-p", "--publish", type=port, action="append", default=[], metavar="HOST:PORT")
    add(
        "--network", "--net", default="none", metavar="none|host", help="only loopback (the default), or this machine's"
    )
    for name in NAMESPACE_OPTIONS:
        add(
            f"--{name}",
            choices=("host", "private"),
            default="private",
            help=f"whose {name.removesuffix('ns')} namespace",
        )
    add("--userns", choices=("host", "auto"), default="auto", help="host: no user namespace of its own")
    add("-w", "--workdir", metavar="DIR")
    add("-u", "--user", metavar="USER", help="a uid, a name, or user:group")
    add("--group-add", action="append", default=[], metavar="GROUP")
    add("-h", "--hostname", metavar="NAME")
    add("--name", metavar="NAME", help="by which `exec` and `ps` of other terminals find it")
    add("--entrypoint", metavar="PROGRAM", help="empty: none, not even the image's")
    add("--read-only", action="store_true", help="/tmp, /run and /dev/shm stay writable, in memory")
    add("--cap-add", action="append", default=[], metavar="CAP", help="a capability, or ALL")
    add("--cap-drop", action="append", default=[], metavar="CAP", help="a capability, or ALL")
    add("--security-opt", action="append", default=[], metavar="OPT",
        help="seccomp=unconfined, seccomp=PROFILE.json, no-new-privileges[=false]")  # fmt: skip
    add("-i", "--interactive", action="store_true", help="give the command this stdin")
    add("-t", "--tty", action="store_true", help="give the command a terminal")
    add("--rm", action="store_true", help="accepted: nothing of a container stays anyway")
    add("--init", action="store_true", help="accepted: PID 1 is always an init of ours")
    add("-d", "--detach", action="store_true", help=argparse.SUPPRESS)
    add("--stats", action="store_true", help="what ended it and what it used, on stderr")
    _add_format(parser)
    return parser


# ---- commands ----------------------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    _stay(arguments, "containers end with this process")
    options = run_options(arguments)
    if arguments.format == "json":
        if arguments.name is not None:
            raise ValueError("--name: with --format json nobody else can use the container")
        with _terminal(arguments):
            result = pc.run(arguments.command or None, **options)
        print(json.dumps(as_dict(result)))
        return result.returncode if result.returncode >= 0 else 128 - result.returncode
    given = streams(interactive=arguments.interactive, tty=arguments.tty)
    for name in ("stdin", "capture_output", "text"):
        del options[name]
    with _terminal(arguments):
        container = pc.Container(arguments.command or None, name=arguments.name, **options, **given)
        if arguments.tty and (found := terminal_size()) is not None:
            container.resize(*found)
        with container:
            code = Carrier(container, given, tty=arguments.tty, hands_on=True).carry()
            ended = container.result
    if ended is not None:
        verdict(ended, arguments.stats)
    return code


def _stay(arguments: argparse.Namespace, why: str) -> None:
    if arguments.detach:
        name = "run" if arguments.action is _run else "exec"
        raise pc.NotSupported("--detach", why, f"run it in the background: pycontainer {name} ... &")


def _exec(arguments: argparse.Namespace) -> int:
    _stay(arguments, "what exec has started ends with this process")
    given = streams(interactive=arguments.interactive, tty=arguments.tty)
    container = _cli_containers.find(arguments.container)
    with _terminal(arguments), _started(container, arguments, given) as process:
        return Carrier(process, given, tty=arguments.tty).carry()


def _started(container: pc.Container, arguments: argparse.Namespace, given: dict[str, Any]) -> pc.Process:
    try:
        return container.popen(
            arguments.command, user=arguments.user, cwd=arguments.workdir, env=environment(arguments),
            tty=arguments.tty, **given,
        )  # fmt: skip
    except (pc.CommandNotFound, pc.CommandNotExecutable):
        raise
    except pc.SetupError as error:
        raise _NotRun(str(error)) from None
    except pc.StateError as error:  # it has ended, or is paused
        raise _cli_containers.NotThere(str(error)) from None


class _NotRun(ValueError):
    """docker's exit code for a user or a directory that is not there."""


class _NoTerminal(ValueError):
    """docker's words, and its exit code."""


def _terminal(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    """-i -t: this terminal is the container's for the time of the run."""
    if not (arguments.interactive and arguments.tty):
        return contextlib.nullcontext()
    if not os.isatty(STDIN):
        raise _NoTerminal("the input device is not a TTY")
    from pycontainer._cli_terminal import raw  # noqa: PLC0415 - termios: other systems have none, and are told so by run()

    return raw(STDIN)


def _doctor(arguments: argparse.Namespace) -> int:
    report = pc.doctor()
    if arguments.format == "json":
        print(json.dumps(report.to_dict(), indent=2))
    else:
        report.print()
    return int(any(report[name].state == "missing" for name in NEEDED))
