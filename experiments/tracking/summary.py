"""Count what a projection did, and say it in one line."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Summary:
    """What a projection did with each run that has begun.

    `problems` has one line for each figure that could not be drawn; `left` is how many runs were
    not yet dealt with when the time was up.
    """

    experiment: str
    experiment_id: str
    uri: str
    outcomes: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    left: int = 0

    @property
    def created(self) -> int:
        """Runs that are new in MLflow."""
        return self._count("created")

    @property
    def updated(self) -> int:
        """Runs of which MLflow now knows more."""
        return self._count("updated")

    @property
    def unchanged(self) -> int:
        """Runs of which MLflow knew everything."""
        return self._count("unchanged")

    @property
    def replaced(self) -> int:
        """Runs that were deleted in MLflow and made again."""
        return self._count("replaced")

    def _count(self, outcome: str) -> int:
        return list(self.outcomes.values()).count(outcome)

    def add(self, later: Summary) -> None:
        """What was done after this, by the next call."""
        for key, outcome in later.outcomes.items():
            if outcome != "unchanged" or key not in self.outcomes:
                # What was made in this projection stays new, whatever came on top.
                before = self.outcomes.get(key)
                self.outcomes[key] = before if before in ("created", "replaced") else outcome
        self.problems += later.problems
        self.left = later.left

    def __str__(self) -> str:
        parts = [f"{self.created} new", f"{self.updated} updated", f"{self.unchanged} unchanged"]
        if self.replaced:
            parts.append(f"{self.replaced} made again")
        return (
            f"{len(self.outcomes)} runs in MLflow experiment {self.experiment!r} "
            f"({', '.join(parts)})"
        )
