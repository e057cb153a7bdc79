"""For each row of doctor() and for each of its causes a test takes the guarantee away.

That the row changes there, and that the cause is said, integration/conftest.py sees when the marked test runs.
"""

from __future__ import annotations

from typing import Any

from pycontainer import _causes, _doctor

Marks = dict[str, dict[str, Any]]
# What is our own doing, in our own processes: a machine where it does not work has no keeper, and no container starts.
NOTHING_TAKES_AWAY = {
    "wall_time": "a deadline of the keeper's poll; the kill is the one that ends every container",
    "output": "the reader in this process counts what it has read",
}
# What doctor() has no way to come to, or no machine at hand shows.
NOT_MADE = {
    "userns_refused": "a security module's refusal, without a filter, a chroot or a setting: none is loaded here",
    "one_id": "an error's: about a user that was asked for; doctor() asks for none (tests/hostile/test_accounts.py)",
    "no_way_back": "an error's: about a namespace of others (tests/integration/test_run_parameters_walls.py)",
}


def test_every_row_has_a_machine_where_it_changes_or_a_reason(marks: Marks) -> None:
    assert set(_doctor._all_names()) == set(marks["takes"]) | set(NOTHING_TAKES_AWAY)
    assert not set(marks["takes"]) & set(NOTHING_TAKES_AWAY)


def test_every_cause_is_made_somewhere_or_has_a_reason(marks: Marks) -> None:
    assert set(_causes.CAUSES) == set(marks["cause"]) | set(NOT_MADE)
    assert not set(marks["cause"]) & set(NOT_MADE)
