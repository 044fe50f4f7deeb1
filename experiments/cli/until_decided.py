"""`mixbench sweep --until-decided`: more replicates for what is undecided, look by look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mixbench.experiments.errors import UserError
from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from mixbench.analysis.statistics.looks import Looks
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.experiments.sweep.expand import Sweep


class Rounds:
    """The plans of a sweep with `decide`: the first look's, then those of undecided cells.

    wanted: the sweep as its YAML has it; how many replicates it asks for is up to the looks.
    """

    def __init__(self, wanted: Sweep) -> None:
        from mixbench.experiments.design import decide
        from mixbench.experiments.store.sweep_folder import SweepFolder, root
        from mixbench.experiments.sweep.expand import checked_draws, expand

        looks = decide.read(wanted.spec)
        if looks is None:
            raise UserError(
                "--until-decided: the sweep has no `decide`, expected such as decide: {metric: "
                "test/accuracy, margin: 0.005, looks: [5, 10, 20]}"
            )
        self._looks = looks.looks
        spec = dict(wanted.spec)
        overrides = spec.pop("overrides", None)
        given = spec["replicates"]
        most = self._looks[-1]
        self._numbers = list(range(most)) if isinstance(given, int) else list(given)[:most]
        if len(self._numbers) < most:
            raise UserError(
                f"decide.looks: the last look is at {most} replicates, but `replicates` lists "
                f"{len(self._numbers)}; list as many, or give their number"
            )
        checked_draws(spec)
        self._all = expand({**spec, "replicates": self._numbers}, overrides)
        self._cells = {cell_key for _, (_, cell_key) in self._all.compared()}
        self._counts = dict.fromkeys(self._cells, self._looks[0])
        begun = root() / wanted.name
        if (begun / "sweep.json").exists():
            # Go on where it was.
            self.goes_on(SweepFolder.open(wanted.name))

    def plan(self) -> Sweep:
        """Return the sweep with the runs that are asked for now."""
        most = max(self._counts.values())
        counts = {**self._counts, **dict.fromkeys(self._all.pretraining, most)}
        first = {number: place for place, number in enumerate(self._numbers)}
        chosen = [
            (run, keys)
            for run, keys in zip(self._all.runs, self._all.keys, strict=True)
            if self._all.is_tuning(keys[0])
            or first.get(run.replicate or 0, 0) < counts.get(keys[1], most)
        ]
        spec = {**self._all.spec, "replicates": self._numbers[:most]}
        runs, keys = zip(*chosen, strict=True)
        return replace(self._all, runs=runs, keys=keys, spec=spec)

    def goes_on(self, folder: SweepFolder) -> bool:
        """Take the looks that the finished runs allow; are more replicates asked for now?"""
        from mixbench.analysis.report.looks import looks_of

        looks = looks_of(folder)
        if looks is None:
            return False
        before = dict(self._counts)
        self._counts = {cell: self._count(cell, looks) for cell in self._cells}
        return self._counts != before and looks.next_look is not None

    def _count(self, cell: str, looks: Looks) -> int:
        from mixbench.analysis.statistics.declared import SEVERAL

        if cell in looks.cells and looks.next_look is not None:
            return looks.next_look
        at = [
            decided.look or looks.taken[-1]
            for pair, decided in looks.decisions.items()
            if any(cell in side.split(SEVERAL) for side in pair)
        ]
        return max([self._looks[0], *at])


def lines(folder: SweepFolder) -> list[str]:
    """Say what the last look decided, and what goes on."""
    from mixbench.analysis.report.looks import looks_of

    looks = looks_of(folder)
    if looks is None or not looks.taken:
        return []
    decided = [one for one in looks.decisions.values() if one.look is not None]
    last = looks.taken[-1]
    counts: Mapping[str, int] = {
        word: sum(str(one.contrast.contrast.verdict) == word for one in decided)
        for word in ("better", "worse", "equivalent")
    }
    words = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    told = f"look at {last} replicates: {len(decided)} of {len(looks.decisions)} decided"
    found = [f"{told}{f' ({words})' if words else ''}"]
    if looks.next_look is not None:
        cells = plural(len(looks.cells), "configuration")
        found.append(f"{cells} of undecided contrasts: up to {looks.next_look} replicates")
    elif len(decided) < len(looks.decisions):
        found.append("that was the last look; the rest stays undecided")
    return found
