"""Rows, limits, and the table they are printed in."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

NANOSECOND, MILLISECOND = 1e-9, 1e-3
_UNITS = {NANOSECOND: "ns", MILLISECOND: "ms"}


@dataclass(slots=True)
class Row:
    """One measured thing; `values` in seconds."""

    name: str
    values: list[float] = field(default_factory=list)
    note: str = ""


@dataclass(slots=True)
class Section:
    """One kind of work: ours in the first row, what it is compared with below."""

    title: str
    unit: float = MILLISECOND
    rows: list[Row] = field(default_factory=list)
    limits: list[tuple[str, float, float]] = field(default_factory=list)  # what, value, at most
    notes: list[str] = field(default_factory=list)

    def limit(self, what: str, value: float, most: float) -> None:
        self.limits.append((what, value, most))

    def limit_ratio(self, name: str, other: str, most: float) -> None:
        """Set a limit for the ratio of two medians, unless one of the two was not measured."""
        medians = {row.name: statistics.median(row.values) for row in self.rows}
        if name in medians and other in medians:
            self.limit(f"{name} / {other}", medians[name] / medians[other], most)

    def lines(self) -> Iterator[str]:
        yield f"\n{self.title:<52}{'median':>12}{'n':>5}{'ours is':>10}"
        medians = [statistics.median(row.values) for row in self.rows]
        for row, median in zip(self.rows, medians, strict=True):
            shown = f"{median / self.unit:.1f} {_UNITS[self.unit]}"
            ratio = "" if row is self.rows[0] else f"{medians[0] / median:.2f} x"
            yield f"  {row.name:<50}{shown:>12}{len(row.values):>5}{ratio:>10}  {row.note}".rstrip()
        for what, value, most in self.limits:
            yield f"  > {what}: {value:.2f}, at most {most:g}: {'met' if value <= most else 'MISSED'}"
        yield from (f"  {note}" for note in self.notes)


def interleaved(rounds: int, measures: dict[str, Callable[[], float]]) -> list[Row]:
    """Measure each in turn, round after round, so that a busy machine slows all of them down alike."""
    measured = [[measure() for measure in measures.values()] for _ in range(rounds + 1)]
    return [Row(name, [*values]) for name, values in zip(measures, zip(*measured[1:], strict=True), strict=True)]
