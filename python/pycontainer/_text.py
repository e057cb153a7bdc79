"""Text of others made safe to show. Imports nothing: the errors need it, and they are there from the start."""

from __future__ import annotations

# `typing` costs 2 ms of every import; type checkers take this name for true.
TYPE_CHECKING = False


def escape(text: str | bytes, keep: str = "") -> str:
    r"""Make foreign text safe to show: control, escape, bidi and other invisible characters become \x1b, \u202e.

    A second pass changes nothing, so text can be escaped where it enters a message and again where it leaves.
    `keep` names characters that stay, such as the newlines of our own layout.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(ord(c)) for c in text)


def _escaped(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: a byte that was not UTF-8
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def last_lines(data: str | bytes | None, count: int = 10) -> str:
    """The last `count` lines of an output, escaped, for the end of a message. It looks at the last 8192 units only."""
    if not data:
        return ""
    tail = data[-8192:]
    text = tail.decode("utf-8", "surrogateescape") if isinstance(tail, bytes) else tail
    lines = [line.rstrip("\r").expandtabs() for line in text.rstrip().split("\n")]
    return "\n".join(escape(line) for line in lines[-count:])


def shown(value: object) -> str:
    """A caller's value for a message: its repr, escaped and not longer than 80 characters."""
    try:
        text = escape(repr(value))
    except ValueError:  # an int of more than 4300 digits has no decimal repr
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= 80 else text[:77] + "..."
