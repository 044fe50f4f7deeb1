"""What a word on the command line means: a sweep, or a run by the beginning of its key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mixbench.experiments.errors import UserError, nearest

if TYPE_CHECKING:
    from mixbench.experiments.store.run_folder import PlannedRun
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.experiments.sweep.expand import Sweep


def wanted(
    name: str, overrides: Sequence[str], rename: str | None, scale: str | None = None
) -> Sweep:
    """The runs of a shipped sweep or a YAML, or of a sweep that was begun, by its name."""
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.experiments.sweep.expand import expand
    from mixbench.experiments.sweep.load import load, shipped

    plain = not overrides and rename is None and scale is None
    if plain and name not in shipped() and name in SweepFolder.names():
        spec = SweepFolder.open(name).spec
        return expand(spec, spec.pop("overrides", None))
    return load(name, overrides, rename, scale)


def sweep(name: str) -> SweepFolder:
    """The sweep of that name, or whose folder that is; UserError for anything else."""
    from mixbench.experiments.store.sweep_folder import SweepFolder, root

    if "/" in name or name in ("", ".", ".."):
        # A shell completes the name of a folder; it must be one right below the root.
        place = Path(name).absolute()
        if ".." in Path(name).parts or place.parent != root():
            raise UserError(
                f"{name!r} is a path outside the sweeps folder {root()}; give a sweep's name "
                "(`mixbench status` lists them)"
            )
        name = place.name
    return SweepFolder.open(name)


def run(words: Sequence[str]) -> tuple[SweepFolder, PlannedRun]:
    """The run meant by RUN, SWEEP/RUN or SWEEP RUN; UserError if it is none, or more than one.

    RUN is a key or its beginning, as in git, and alone is looked for in all sweeps.
    """
    if len(words) > 2:
        raise UserError(f"got {' '.join(words)!r}, expected RUN, or SWEEP RUN")
    if len(words) == 1 and "/" in words[0]:
        before, _, key = words[0].rstrip("/").rpartition("/")
        # Also the path of a run's folder, SWEEP/runs/KEY.
        words = [before.removesuffix("/runs"), key]
    if len(words) == 2:
        folder = sweep(words[0])
        return folder, folder.find(words[1])
    return _anywhere(words[0])


def runs(words: Sequence[str]) -> dict[str, tuple[SweepFolder, list[PlannedRun]]]:
    """sweep name -> its runs that are meant by SWEEP RUN... or RUN...; a sweep alone has none.

    The first word is a sweep if there is one of that name.
    """
    from mixbench.experiments.store.sweep_folder import SweepFolder

    found: dict[str, tuple[SweepFolder, list[PlannedRun]]] = {}
    first, *others = words
    is_path = "/" in first and len(others) > 0
    if first in SweepFolder.names() or is_path or first.startswith(("/", ".")):
        folder = sweep(first)
        chosen = [folder.find(word) for word in others]
        return {folder.name: (folder, list({one.run_key: one for one in chosen}.values()))}
    for word in words:
        folder, planned = run([word])
        _, chosen = found.setdefault(folder.name, (folder, []))
        if planned not in chosen:
            chosen.append(planned)
    return found


def labels(plan: Sequence[PlannedRun]) -> dict[str, str]:
    """cell_key -> what tells the cell from the others of its sweep."""
    from mixbench.analysis.tables.labels import cell_labels

    return cell_labels({planned.cell_key: planned.config for planned in plan})


def _anywhere(prefix: str) -> tuple[SweepFolder, PlannedRun]:
    from mixbench.experiments.store.sweep_folder import SweepFolder

    names = SweepFolder.names()
    if prefix in names:
        raise UserError(
            f"{prefix!r} is a sweep: name one of its runs (`mixbench status {prefix}` shows them)"
        )
    found = []
    for name in names:
        folder = SweepFolder.open(name)
        found += [
            (folder, planned)
            for planned in folder.plan()
            if prefix and planned.run_key.startswith(prefix)
        ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise _unknown(prefix, names)
    some = ", ".join(
        f"{folder.name}/{planned.run_key} ({planned.config['augmentation']['name']} "
        f"seed {planned.config['seed']})"
        for folder, planned in found[:4]
    )
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    raise UserError(f"run {prefix!r} is ambiguous: it can be {some}{more}")


def _unknown(prefix: str, names: Sequence[str]) -> UserError:
    from mixbench.experiments.store.sweep_folder import SweepFolder, root

    if not names:
        return UserError(f"no run {prefix!r}: there is no sweep in {root()}")
    keys = [planned.run_key for name in names for planned in SweepFolder.open(name).plan()]
    # Beginnings of the same length: a slip in six of sixteen characters would be far off.
    short = {key[: max(len(prefix), 1)]: key for key in keys}
    close = nearest(prefix, short)
    guess = f"; did you mean {short[close]!r}?" if close else ""
    return UserError(
        f"no run {prefix!r} in any sweep of {root()}{guess} "
        "(`mixbench status SWEEP` shows the keys)"
    )
