"""Medians, ratios, limits, and the one table they are printed in."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Row:
    """One measured thing: `values` in the section's unit, `note` for what is no number."""

    name: str
    values: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(slots=True)
class Target:
    """A limit that a number must keep, and the number that was aimed at."""

    what: str
    value: float
    limit: float
    aim: float | None = None

    @property
    def met(self) -> bool:
        return self.value <= self.limit

    def __str__(self) -> str:
        verdict = "met" if self.met else "MISSED"
        aim = ""
        if self.aim is not None:
            aim = f"; aim {self.aim:g}: {'met' if self.value <= self.aim else 'not met'}"
        return f"{self.what}: {self.value:.2f}, at most {self.limit:g}: {verdict}{aim}"


@dataclass(slots=True)
class Section:
    """One kind of work: ours in the first row, what it stands beside below."""

    title: str
    unit: str
    scale: float  # of a second
    rows: list[Row] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        yield ""
        yield f"{self.title:<52}{'median':>12}{'n':>5}{'ours is':>10}"
        ours = next((row for row in self.rows if row.values), None)
        for row in self.rows:
            if not row.values:
                yield f"  {row.name:<50}{'-':>12}{'':>17}{row.note}"
                continue
            shown = f"{row.median / self.scale:.1f} {self.unit}"
            ratio = "" if row is ours or ours is None else f"{ours.median / row.median:.2f} x"
            yield f"  {row.name:<50}{shown:>12}{len(row.values):>5}{ratio:>10}  {row.note}".rstrip()
        for target in self.targets:
            yield f"  > {target}"
        for note in self.notes:
            yield f"  {note}"


def interleaved(rounds: int, measures: dict[str, Callable[[], float]], *, warm_ups: int = 1) -> dict[str, list[float]]:
    """Measure each in turn, round after round, so that a busy machine is busy for all of them alike."""
    results: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(-warm_ups, rounds):
        for name, measure in measures.items():
            value = measure()
            if number >= 0:
                results[name].append(value)
    return results
