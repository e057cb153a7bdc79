"""Small Dockerfiles with their contexts: every instruction, flag and form of expansion, built by other builders too.

The modules beside this one are tables; case.py says what a row is, built.py reads what was built as values.
"""

from __future__ import annotations

from corpus import copies, ignores, metadata, runs, stages, words
from corpus.case import Case

TABLES: dict[str, tuple[Case, ...]] = {
    module.__name__.rpartition(".")[2]: module.CASES for module in (metadata, words, copies, ignores, runs, stages)
}
CASES: dict[str, Case] = {case.name: case for table in TABLES.values() for case in table}
