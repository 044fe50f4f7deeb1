"""Load a finished run's network from its checkpoint, with the data that it is measured on."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mixbench.experiments.config import resolve
from mixbench.experiments.data.audio.front_end import with_spectrograms
from mixbench.experiments.data.load import load_once
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.base import Subject
from mixbench.experiments.models.build import build
from mixbench.experiments.store import checkpoint
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.text import first_line


def subject_of(planned: PlannedRun, device: torch.device, beat: Callable[[], None]) -> Subject:
    """Load the network of a finished run and its data.

    Args:
        planned: The run.
        device: Where network and data go.
        beat: Called at every batch; see `Subject`.

    Raises:
        UserError: There are no weights, or none that this version of mixbench can read or that fit
            the network; or the images changed since the training.
    """
    parsed = resolve.parse(planned.config)
    state = next(checkpoint.load(planned.folder.path), None)
    if state is None:
        exists = checkpoint.exists(planned.folder.path)
        raise UserError(
            f"run {planned.run_key}: "
            + ("its weights can't be read, or are of another version" if exists else "no weights")
        )
    dataset = load_once(parsed.dataset, str(device))
    trained_on = ((planned.folder.result() or {}).get("dataset") or {}).get("digest")
    if trained_on not in (None, dataset.digest):
        raise UserError(
            f"run {planned.run_key}: the images of {parsed.dataset.name} are no longer those that "
            "it was trained on"
        )
    network = build(
        parsed.model,
        channels=dataset.shape[0],
        classes=len(dataset.classes),
        size=parsed.dataset.image_size or dataset.shape[1],
        seed=parsed.seed,
    )
    try:
        network.load_state_dict(state["ema" if parsed.training.measures_average else "network"])
    except (KeyError, RuntimeError) as error:
        raise UserError(
            f"run {planned.run_key}: its weights don't fit the network: {first_line(error)}"
        ) from None
    # Two calls: the types of `Module.to` know device and memory format only apart.
    channels_last = parsed.training.channels_last
    network.to(device).to(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
    with_spectrograms(network, parsed.dataset)
    return Subject(network, dataset, parsed, device, beat, planned)
