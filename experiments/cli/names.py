"""What a name on the command line means: a sweep, or a run by the beginning of its key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mixbench.experiments.errors import UserError, nearest

if TYPE_CHECKING:
    from mixbench.experiments.manage.observe import Observer
    from mixbench.experiments.store.run_folder import PlannedRun
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.experiments.sweep.expand import Sweep


def any_sweep(
    name: str, overrides: Sequence[str], rename: str | None, scale: str | None = None
) -> Sweep:
    """Expand a shipped sweep, a YAML file, or a started sweep given by its name."""
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.experiments.sweep.expand import expand, united
    from mixbench.experiments.sweep.load import load

    if not is_begun(name):
        return load(name, overrides, rename, scale)
    changes = {"--set": overrides, "--name": rename, "--scale": scale}
    for option, value in changes.items():
        if value:
            raise UserError(
                f"{option}: needs the YAML file of the sweep, and {name!r} is the name of a begun "
                f"one, which is continued as it is; give the file: FILE.yaml {option} ..."
            )
    specs = [dict(wish.spec) for wish in SweepFolder.open(name).wishes()]
    return united([expand(spec, spec.pop("overrides", None)) for spec in specs])


def is_begun(name: str) -> bool:
    """Is it the name of a sweep that was started, and of none that ships?"""
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.experiments.sweep.load import shipped

    return name not in shipped() and name in SweepFolder.names()


def started_sweep(name: str) -> SweepFolder:
    """Open the sweep of that name, or in that folder; UserError for anything else."""
    from mixbench.experiments.store.sweep_folder import SweepFolder, root

    if "/" in name or name in ("", ".", ".."):
        # A shell completes the name of a folder; it must be one right below the root.
        path = Path(name).absolute()
        if ".." in Path(name).parts or path.parent != root():
            raise UserError(
                f"{name!r} is a path outside the sweeps folder {root()}; give a sweep's name "
                "(`mixbench status` lists them)"
            )
        name = path.name
    return SweepFolder.open(name)


def one_run(words: Sequence[str]) -> tuple[SweepFolder, PlannedRun]:
    """Find the run meant by RUN, SWEEP/RUN or SWEEP RUN; UserError if there is not exactly one.

    RUN is a key or its beginning, as in git; alone it is searched for in all sweeps.
    """
    if len(words) > 2:
        raise UserError(f"got {' '.join(words)!r}, expected RUN, or SWEEP RUN")
    if len(words) == 1 and "/" in words[0]:
        before, _, key = words[0].rstrip("/").rpartition("/")
        # Also the path of a run's folder, SWEEP/runs/KEY.
        words = [before.removesuffix("/runs"), key]
    if len(words) == 2:
        folder = started_sweep(words[0])
        return folder, folder.find(words[1])
    return _run_in_any_sweep(words[0])


def several_runs(words: Sequence[str]) -> dict[str, tuple[SweepFolder, list[PlannedRun]]]:
    """Find the runs meant by SWEEP RUN... or RUN...: sweep name -> runs, [] for a sweep alone.

    The first word is a sweep if there is one of that name.
    """
    from mixbench.experiments.store.sweep_folder import SweepFolder

    by_sweep: dict[str, tuple[SweepFolder, list[PlannedRun]]] = {}
    first, *others = words
    is_path = "/" in first and len(others) > 0
    if first in SweepFolder.names() or is_path or first.startswith(("/", ".")):
        folder = started_sweep(first)
        chosen = [folder.find(word) for word in others]
        return {folder.name: (folder, list({run.run_key: run for run in chosen}.values()))}
    for word in words:
        folder, planned = one_run([word])
        _, chosen = by_sweep.setdefault(folder.name, (folder, []))
        if planned not in chosen:
            chosen.append(planned)
    return by_sweep


def cell_names(plan: Sequence[PlannedRun]) -> dict[str, str]:
    """Return cell_key -> what distinguishes the cell from the others of its sweep."""
    from mixbench.analysis.tables.labels import plan_labels

    return plan_labels(plan)


def follow_cell_names(observer: Observer) -> Callable[[], dict[str, str]]:
    """Return a function that gives the cells' names as of the plan that the observer saw last."""
    known: tuple[tuple[int, int], dict[str, str]] = ((0, 0), {})

    def labels() -> dict[str, str]:
        nonlocal known
        if known[0] != observer.version:
            known = observer.version, cell_names(observer.plan)
        return known[1]

    return labels


def a_few(names: Sequence[str]) -> str:
    """List the first three names and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _run_in_any_sweep(prefix: str) -> tuple[SweepFolder, PlannedRun]:
    from mixbench.experiments.store.sweep_folder import SweepFolder

    sweeps = SweepFolder.names()
    if prefix in sweeps:
        raise UserError(
            f"{prefix!r} is a sweep: name one of its runs (`mixbench status {prefix}` shows them)"
        )
    matches: list[tuple[SweepFolder, PlannedRun]] = []
    for name in sweeps if prefix else ():
        folder = SweepFolder.open(name)
        matches += [(folder, run) for run in folder.plan() if run.run_key.startswith(prefix)]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise _unknown_run(prefix, sweeps)
    some = ", ".join(
        f"{folder.name}/{planned.run_key} ({planned.config['augmentation']['name']} "
        f"seed {planned.config['seed']})"
        for folder, planned in matches[:4]
    )
    more = f" and {len(matches) - 4} more" if len(matches) > 4 else ""
    raise UserError(f"run {prefix!r} is ambiguous: it can be {some}{more}")


def _unknown_run(prefix: str, sweeps: Sequence[str]) -> UserError:
    from mixbench.experiments.store.sweep_folder import SweepFolder, root

    if not sweeps:
        return UserError(f"no run {prefix!r}: there is no sweep in {root()}")
    keys = [planned.run_key for name in sweeps for planned in SweepFolder.open(name).plan()]
    # Beginnings of the same length: a slip in six of sixteen characters would be far off.
    short = {key[: max(len(prefix), 1)]: key for key in keys}
    close = nearest(prefix, short)
    guess = f"; did you mean {short[close]!r}?" if close else ""
    return UserError(
        f"no run {prefix!r} in any sweep of {root()}{guess} "
        "(`mixbench status SWEEP` shows the keys)"
    )
