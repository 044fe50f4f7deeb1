"""Whether `dataset.sound` fits the other sections of its run."""

from __future__ import annotations

from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.config.schema import RunConfig


def check_sound(config: RunConfig, facts: DatasetInfo) -> None:
    """Raise ValueError for waveforms where there are none, or that something would spoil."""
    sound, training = config.dataset.sound, config.training
    if sound is None:
        return
    if not facts.is_sound:
        raise ValueError(
            f"dataset.sound: got {sound}, but {facts.name} has no sound; expected klettres, "
            "audiofolder:/path, or leave it out"
        )
    if training.flip or training.crop_padding or training.crop == "resized":
        raise ValueError(
            f"dataset.sound: got {sound}, whose samples crops and flips would put out of order; "
            "expected training.flip: false and crop_padding: 0"
        )
    if config.streams is not None:
        raise ValueError(f"dataset.sound: got {sound}, but streams are of spectrograms alone")
    if config.teacher is not None:
        raise ValueError(f"dataset.sound: got {sound}, but a teacher sees spectrograms alone")
    if config.transfer is not None and config.transfer.mixing == "features":
        raise ValueError(f"dataset.sound: got {sound}, but transfer.mixing is features")
