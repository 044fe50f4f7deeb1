"""Transfer: images made to mislead another network of the sweep, shown to this one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mixbench.experiments.config import resolve
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.load import load_once
from mixbench.experiments.errors import UserError, did_you_mean
from mixbench.experiments.evaluation.attack import AttackSettings
from mixbench.experiments.evaluation.attack.apgd import apgd
from mixbench.experiments.evaluation.attack.ball import Ball
from mixbench.experiments.evaluation.base import Subject
from mixbench.experiments.evaluation.gradients import input_gradients
from mixbench.experiments.evaluation.restore import subject_of
from mixbench.experiments.store import checkpoint
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder


def source_of(subject: Subject, settings: AttackSettings) -> Subject | None:
    """The network that the images are made for.

    Args:
        subject: The network that they are shown to.
        settings: Which run.

    Returns:
        None where no transfer is asked for, or where both are the same network.

    Raises:
        UserError: There is no such run, or none that images can be taken from.
    """
    if settings.source is None or subject.planned is None:
        return None
    planned = named(settings.source, _folder_of(subject.planned).plan())
    if planned.run_key == subject.planned.run_key:
        return None
    source = subject_of(planned, subject.device, subject.beat)
    _check_classes(planned, source.config.dataset, subject.config.dataset)
    return source


def check(settings: AttackSettings, runs: Sequence[PlannedRun]) -> None:
    """Check the source of transfer before any run is measured.

    Args:
        settings: Which run.
        runs: Those that will be measured, all of one sweep.

    Raises:
        UserError: It is not in the sweep, not finished, or was trained on other classes.
    """
    if settings.source is None or not runs:
        return
    planned = named(settings.source, _folder_of(runs[0]).plan())
    dataset = resolve.parse(planned.config).dataset
    for other in dict.fromkeys(resolve.parse(run.config).dataset for run in runs):
        _check_classes(planned, dataset, other)


def named(key: str, plan: Sequence[PlannedRun]) -> PlannedRun:
    """The finished run of a plan whose key begins so.

    Args:
        key: A key, or enough of its beginning.
        plan: All runs of the sweep.

    Raises:
        UserError: None, or several, begin so; or it has no weights.
    """
    done = [run for run in plan if run.folder.state_on_file() == RunState.DONE]
    found = [run for run in plan if run.run_key.startswith(key)]
    if len(found) != 1:
        keys = [run.run_key for run in done]
        hint = did_you_mean(key, keys) or (f", such as {keys[0]}" if keys else "")
        count = "several runs begin so" if found else "no run of the sweep has that key"
        raise UserError(
            f"attack.source: got {key!r}, {count}; expected the key of a finished run{hint}"
        )
    (run,) = found
    if run not in done or not checkpoint.usable(run.folder.path):
        what = "has no usable weights" if run in done else "is not finished"
        raise UserError(f"attack.source: got {key!r}, a run that {what}; expected a finished run")
    return run


def transferred(
    source: Subject, pixels: Tensor, labels: Tensor, epsilon: float, steps: int
) -> Tensor:
    """Images that mislead the source, as far as ε allows.

    Args:
        source: The network that they are made for.
        pixels: (B,C,H,W) float32 in [0,1].
        labels: (B,) int64.
        epsilon: Largest change of a value, in pixels from 0 to 1.
        steps: Of APGD with the log odds, all of which are taken.

    Returns:
        (B,C,H,W) float32.
    """

    def predict(images: Tensor) -> Tensor:
        source.beat()
        logits: Tensor = source.network(source.normalised(images))
        return logits

    with input_gradients(source.network):
        images, _ = apgd(
            predict,
            labels,
            Ball(pixels, epsilon),
            pixels,
            steps=steps,
            loss_name="log_odds",
            until_wrong=False,
        )
    return images.to(torch.float32)


def _folder_of(run: PlannedRun) -> SweepFolder:
    # A run's folder is SWEEP/runs/KEY.
    return SweepFolder.at(run.folder.path.parent.parent)


def _check_classes(planned: PlannedRun, source: DatasetConfig, target: DatasetConfig) -> None:
    if source == target:
        return
    one, other = (load_once(config, "cpu") for config in (source, target))
    for what, found, expected in (
        ("other classes", ", ".join(one.classes), ", ".join(other.classes)),
        ("images of another shape", one.shape, other.shape),
    ):
        if found != expected:
            raise UserError(
                f"attack.source: got {planned.run_key}, a network of {what} ({source.name}: "
                f"{found}); expected those of {target.name}: {expected}"
            )
