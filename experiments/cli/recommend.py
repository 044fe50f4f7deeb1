"""`mixbench recommend`: what to use, and the lines to paste."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.cli.options import JsonOption, SweepArgument

if TYPE_CHECKING:
    from mixbench.analysis.recommend.snippets import Defaults


def recommend(
    name: SweepArgument,
    goal: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="GOAL",
            help="accuracy, calibration, likelihood, occlusion, corruption, attack, localisation; "
            "default: what the sweep was made for.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what to use, what can't be told apart and what to avoid, with the lines to paste.

    For mixbench's drop-in, and for timm's and torchvision's own classes where they can express it.

    Example: mixbench recommend demo --for calibration
    """
    from mixbench.analysis.recommend import answer
    from mixbench.analysis.report.data import collect
    from mixbench.experiments.cli.names import started_sweep

    data = collect(started_sweep(name), None)
    metric = answer.metric_for(goal, data.folder.name, data.done)
    write = answer.as_json if as_json else answer.as_text
    print(write(data.folder.name, data.comparison, data.tables.runs, metric, defaults()))


def defaults() -> Defaults:
    """Return method -> parameter -> default, which are left out of the lines to paste."""
    from mixbench import augmentations

    return {
        name: {one.name: one.default for one in augmentations.describe(name).parameters}
        for name in augmentations.available()
    }
