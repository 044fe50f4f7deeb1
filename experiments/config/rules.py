"""Whether the sections of a run's configuration fit each other, and why not.

Rules that need the built network are checked in `mixbench.experiments.transfer`.
"""

from __future__ import annotations

from mixbench.experiments.config import models
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.config.transfer import TransferConfig
from mixbench.experiments.staging import moments
from mixbench.experiments.staging.methods import methods_of
from mixbench.experiments.text import plural


def check_transfer(config: RunConfig) -> None:
    """Raise ValueError for a transfer section that contradicts itself or the other sections.

    Unfreezings must come one after another and before the end, at layers that the network has, as
    far as those are known.
    """
    transfer = config.transfer
    if transfer is None:
        return
    if config.model.name in models.our_networks():
        _check_layers(transfer, config.model.name)
    _check_unfreezings(transfer, config.training.epochs)
    if transfer.mixing == "features":
        if transfer.freeze == 0:
            raise ValueError(
                "transfer.mixing: features are the output of a frozen layer, and freeze: 0 is the "
                "stem alone; expected freeze of at least 1"
            )
        reason = why_not_in_features(config)
        if reason is not None:
            raise ValueError(f"transfer.mixing: got features, but {reason}")
    if transfer.cache:
        reason = why_not_cached(config)
        if reason is not None:
            raise ValueError(f"transfer.cache: got true, but {reason}")


def check_validation(config: RunConfig) -> None:
    """Raise ValueError for a plateau to wait for where not every epoch is validated."""
    every = config.training.validate_every
    if every is None:
        return
    ends = [
        (f"staging: phase {number}", phase[end])
        for number, phase in enumerate(config.phases or (), 1)
        for end in ("from", "to")
        if end in phase
    ]
    for where, moment in (*ends, *(("transfer.unfreeze", at) for at in config.unfreezings)):
        if isinstance(moment, str) and moment.startswith("plateau"):
            raise ValueError(
                f"training.validate_every: got {every}, but {where} waits for a plateau "
                f"({moment}), which needs the validation after every epoch"
            )


def why_not_cached(config: RunConfig) -> str | None:
    """Return why features of the frozen part can't be computed once; None if they can."""
    transfer, training = config.transfer, config.training
    if transfer is None or transfer.freeze in (None, "none"):
        return "nothing is frozen (transfer.freeze)"
    if config.teacher is not None:
        return "a teacher sees the images (teacher)"
    if transfer.unfreeze:
        return "the frozen part does not stay frozen (transfer.unfreeze)"
    if training.crop == "resized":
        return "crops vary (training.crop: resized, not none)"
    if training.crop_padding:
        return f"crops vary (training.crop_padding: {training.crop_padding}, not 0)"
    if training.flip:
        return "images are flipped (training.flip: true, not false)"
    if transfer.mixing != "features" and _mixes(config):
        return "images are mixed (transfer.mixing: pixels, not features)"
    return None


def why_not_in_features(config: RunConfig) -> str | None:
    """Return why the run's methods can't mix features; None if they can."""
    for where, mix in methods_of(config.augmentation, config.phases):
        if "bank" in mix.needs:
            return f"{mix.name} shows images of earlier batches ({where})"
        if mix.deepest:
            return f"{mix.name} mixes inside the network by itself ({where})"
        if "model" in mix.needs:
            return f"{mix.name} looks at images with the network ({where})"
        if "masks" in mix.needs:
            return f"{mix.name} looks at masks of images ({where})"
        if "normalisation" in mix.needs:
            return f"{mix.name} changes the colours of images ({where})"
    return None


def _mixes(config: RunConfig) -> bool:
    methods = methods_of(config.augmentation, config.phases)
    return any(mix.name != "none" for _, mix in methods)


def _check_layers(transfer: TransferConfig, model: str) -> None:
    stages = models.our_networks()[model].stages
    layers = [("freeze", transfer.freeze), *(("unfreeze", p["down_to"]) for p in transfer.points)]
    for field, number in layers:
        if isinstance(number, int) and number > len(stages):
            raise ValueError(
                f"transfer.{field}: got layer {number}, expected at most {len(stages)}, the layers "
                f"of {model}: {', '.join(stages)}"
            )


def _check_unfreezings(transfer: TransferConfig, epochs: int) -> None:
    before: tuple[float, moments.Moment] = (0.0, "the start")
    for number, point in enumerate(transfer.points, start=1):
        where = f"transfer.unfreeze: {number}, at: got {point['at']}"
        share = _latest_share(point["at"], epochs)
        if share is None:
            continue
        if share >= 1:
            raise ValueError(
                f"{where}, expected before the end of the training, which has "
                f"{plural(epochs, 'epoch')}"
            )
        if share <= before[0]:
            raise ValueError(f"{where}, expected after {before[1]}")
        before = (share, point["at"])


def _latest_share(moment: moments.Moment, epochs: int) -> float | None:
    """Return how much of the training is done then, at the latest; None for an open plateau."""
    if isinstance(moment, float):
        return moment
    if moments.is_fixed(moment):
        return int(moment.partition(" ")[2]) / epochs
    limit = moments.latest(moment)
    return None if limit is None else _latest_share(limit, epochs)
