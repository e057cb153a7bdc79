"""Figures by name, the bounds on them, and the table of both: what run.py and images.py print."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path


class Missing(Exception):
    """A figure that could not be read, and why."""


@dataclass(frozen=True)
class Bound:
    """One line of the table: ours against a yardstick (or, without one, against the bound itself)."""

    measure: str
    ours: str
    yard: str | None
    at: float
    unit: str = "ms"
    least: bool = False  # the bound is a floor: more is better


@dataclass
class Figures:
    """Samples by name, and for each name that has none (or does not count) the reason."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def take(self, names: tuple[str, ...], read: Callable[[], list[float]]) -> None:
        """Read one value for each of the names."""
        try:
            values = read()
        except Missing as error:
            self.missing.update(dict.fromkeys(names, str(error)))
        else:
            for name, value in zip(names, values, strict=True):
                self.samples.setdefault(name, []).append(value)

    def median(self, name: str) -> float | None:
        return statistics.median(self.samples[name]) if name in self.samples and name not in self.missing else None


def judge(bound: Bound, figures: Figures) -> tuple[str, list[str]]:
    """pass, miss or none, and the cells of the line."""
    ours, yard = figures.median(bound.ours), figures.median(bound.yard) if bound.yard else 1.0
    why = figures.missing.get(bound.ours) or figures.missing.get(bound.yard or "") or ""
    sign = ">=" if bound.least else "<="
    words = [show(ours, bound.unit), bound.yard or "", show(yard, bound.unit) if bound.yard else ""]
    if ours is None or yard is None:
        return "none", [bound.measure, *words, "", f"{sign} {bound.at:g}", why[:70]]
    ratio = ours / yard
    holds = ratio >= bound.at if bound.least else ratio <= bound.at
    verdict = "pass" if holds else "miss"
    return verdict, [bound.measure, *words, f"{ratio:.3f}" if bound.yard else "", f"{sign} {bound.at:g}", verdict]


def show(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.3f} {unit}".strip() if value < 1000 else f"{value:.0f} {unit}"


def print_table(rows: list[list[str]]) -> None:
    heads = ["measure", "ours", "yardstick", "its figure", "ratio", "bound", "verdict"]
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    for row in [heads, ["-" * width for width in widths], *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def verdicts(bounds: Iterable[Bound], figures: Figures, notes: list[str], json_file: Path | None) -> int:
    """Print the table, write the file; 0 where every bound is held."""
    judged = [judge(bound, figures) for bound in bounds]
    print_table([cells for _, cells in judged])
    said = [verdict for verdict, _ in judged]
    print(f"{said.count('pass')} held, {said.count('miss')} missed, {said.count('none')} without a figure")
    if json_file:
        table = [{"verdict": verdict, "cells": cells} for verdict, cells in judged]
        content = {"samples": figures.samples, "missing": figures.missing, "table": table, "notes": notes}
        json_file.write_text(json.dumps(content, indent=1))
    return 0 if set(said) <= {"pass"} else 1
