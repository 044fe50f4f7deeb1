"""Change the plan of a begun sweep from the command line, and say what that comes to."""

from __future__ import annotations

import getpass
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mixbench.experiments.store.growth import Growth
    from mixbench.experiments.store.plan import Command
    from mixbench.experiments.store.sweep_folder import Asked, SweepFolder
    from mixbench.experiments.sweep.expand import Sweep

_began = [time.time()]


def command_begins(at: float) -> None:
    """Note when the command began: what others plan from then on is planned at the same time."""
    _began[0] = at


def command(name: str, *, continues: bool) -> Command:
    """Describe this command; name: the sweep as it was given. continues: by a begun one's name."""
    from mixbench.experiments.store.plan import Command

    path = Path(name)
    source = str(path.absolute()) if path.is_file() else name
    return Command(_began[0], source=f"{_user()}:{source}", continues=continues)


def began() -> float:
    """Return when the command began."""
    return _began[0]


def asked(sweep: Sweep) -> Asked:
    """Return what the sweep asks for, as its folder takes it."""
    from mixbench.experiments.store.sweep_folder import Asked, planned_rows

    return Asked(
        sweep.spec, sweep.description, planned_rows(sweep.rows(), sweep.pretraining, sweep.tune)
    )


@dataclass(frozen=True)
class Change:
    """How the plan of a begun sweep changes.

    new: the keys of added runs that have no result. dropped: of all runs that are no longer asked
    for and have a folder, or were planned until now.
    """

    folder: SweepFolder
    growth: Growth
    new: frozenset[str]
    dropped: tuple[str, ...]
    checked: int = 0
    """The revision of the plan in which no run would become another one."""

    @classmethod
    def of(cls, folder: SweepFolder, growth: Growth, checked: int = 0) -> Change:
        """Look up on disk what `growth` adds and leaves out."""
        runs = folder.path / "runs"
        begun = folder.begun() if growth.added else set()
        done = {key for key in begun & {*growth.added} if (runs / key / "result.json").exists()}
        gone_before = sorted(set(folder.dropped()) - set(growth.added))
        dropped = dict.fromkeys([*growth.dropped, *gone_before])
        return cls(folder, growth, frozenset(growth.added) - done, tuple(dropped), checked)

    def counts(self, states: Mapping[str, RunState]) -> str:
        """Say how many of the runs are done, failed, running, new, no longer asked for."""
        known = Counter(state for key, state in states.items() if key not in self.new)
        words = [f"{known[RunState.DONE]:,} done"]
        others = {
            **{str(state): known[state] for state in (RunState.FAILED, RunState.RUNNING)},
            "to be done": known[RunState.WAITING] + known[RunState.STALE],
            "new": sum(key in self.new for key in states),
            "no longer asked for": len(self.dropped),
        }
        return ", ".join(words + [f"{count:,} {word}" for word, count in others.items() if count])

    def notes(self, sweep: Sweep) -> list[str]:
        """Say in lines why runs go, and which stay that the sweep does not ask for."""
        lines = _why_other_keys(sweep, self.growth)
        if self.growth.kept:
            sources = (str(wish.by.get("source") or "") for wish in self.growth.kept_for)
            named = [source.partition(":")[2] for source in dict.fromkeys(sources) if source]
            count = len(self.growth.kept)
            verb = "stays" if count == 1 else "stay"
            where = f" ({', '.join(named)})" if named else ""
            lines.append(
                f"{plural(count, 'run')} that another command asks for at the same time "
                f"{verb}{where}"
            )
        return lines

    def how_to_remove(self) -> list[str]:
        """Say where the runs are that are left out, if there are any."""
        on_disk = self.folder.dropped()
        if not on_disk:
            return []
        return [
            f"{plural(len(on_disk), 'run')} no longer asked for: kept on disk, left out of "
            f"comparisons; to remove: mixbench clean {self.folder.name} --dropped"
        ]


def preview(sweep: Sweep, command: Command) -> Change | None:
    """Return how the plan would change; None for a sweep that is not begun.

    UserError where a run would be another one under the same key.
    """
    from mixbench.experiments.store.sweep_folder import SweepFolder, root

    if not (root() / sweep.name / "sweep.json").exists():
        return None
    folder = SweepFolder.open(sweep.name)
    number = folder.newest_revision()
    return Change.of(folder, folder.grown(asked(sweep), command)[1], number)


def _why_other_keys(sweep: Sweep, growth: Growth) -> list[str]:
    """Say which runs are dropped because mixbench or the images changed, and not the sweep."""
    from mixbench.experiments.config import resolve
    from mixbench.experiments.errors import UserError

    wanted = {run_key for run_key, _ in sweep.keys}
    is_other: dict[str, bool] = {}
    changed: dict[str, None] = {}
    count = 0
    for row in growth.dropped_rows:
        # What is true of a run is true of its cell.
        if row.cell_key not in is_other:
            try:
                is_other[row.cell_key] = resolve.parse(row.config).run_key in wanted
            except UserError:
                is_other[row.cell_key] = False
        if is_other[row.cell_key]:
            count += 1
            changed[str(row.config["augmentation"]["name"])] = None
    if not count:
        return []
    return [
        f"{count} of them because mixbench changed (a method draws otherwise, say) or the images "
        f"did: the same configurations ({', '.join(changed)}) are other runs now"
    ]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "?"
