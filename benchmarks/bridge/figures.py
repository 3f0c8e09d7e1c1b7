"""What a row finds: figures, each with its goal, and the floor that was measured beside it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..report import number

Better = Literal["more", "less"]


@dataclass(frozen=True)
class Figure:
    """One figure.

    :ivar name: what it is called in the stored results.
    :ivar title: for people.
    :ivar unit: what is counted.
    :ivar goal: at least (``better`` is ``more``) or at most (``less``) this; None where there is no goal.
    :ivar measured: what was found.
    :ivar floor: the same load with nothing behind it; None where nothing can be taken away.
    :ivar floor_name: what the floor is.
    :ivar note: what has to be said with it.
    :ivar details: further values of the same measurement, for the stored results.
    """

    name: str
    title: str
    unit: str
    goal: float | None
    better: Better
    measured: float
    floor: float | None = None
    floor_name: str = ""
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def is_met(self) -> bool | None:
        """Whether it is as it should be; None without a goal."""
        if self.goal is None:
            return None
        return self.measured >= self.goal if self.better == "more" else self.measured <= self.goal

    @property
    def ratio(self) -> float | None:
        """Measured to floor."""
        return self.measured / self.floor if self.floor else None

    def stored(self) -> dict[str, Any]:
        """As it stands in the stored results."""
        values = {name: _rounded(value) for name, value in asdict(self).items()}
        return {**values, "ratio": _rounded(self.ratio), "is_met": self.is_met}


def loaded(stored: dict[str, Any]) -> Figure:
    """What :meth:`Figure.stored` gave."""
    return Figure(**{name: value for name, value in stored.items() if name not in ("ratio", "is_met")})


def goal(figure: Figure) -> str:
    """What it should be."""
    if figure.goal is None:
        return "–"
    if figure.goal == 0 and figure.better == "less":
        return "0"
    return f"{'≥' if figure.better == 'more' else '≤'} {number(figure.goal)}"


def value(measured: float) -> str:
    """A figure; none of something is 0 and not 0.00."""
    return "0" if measured == 0 else number(measured)


def median(samples: Sequence[dict[str, Any]], name: str) -> float:
    """Of one value of several measurements."""
    return float(statistics.median(sample[name] for sample in samples))


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value
