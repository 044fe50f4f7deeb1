"""Whether a run's transfer section fits the rest of its configuration. Without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixbench.experiments.config import models
from mixbench.experiments.config.varying import why_not_cached, why_not_in_features
from mixbench.experiments.staging import moments

if TYPE_CHECKING:
    from mixbench.experiments.config.schema import RunConfig
    from mixbench.experiments.config.transfer import TransferConfig


def check(config: RunConfig) -> None:
    """ValueError for what can't be; what only the network can tell is for `trial`.

    Unfreezings must come one after another and before the end; our own networks' layers are known.
    """
    transfer = config.transfer
    if transfer is None:
        return
    if config.model.name in models.MODELS:
        _check_layers(transfer, config.model.name)
    _check_points(transfer, config.training.epochs)
    if transfer.mixing == "features" and transfer.freeze == 0:
        raise ValueError(
            "transfer.mixing: features are the output of a frozen layer, and freeze: 0 is the stem "
            "alone; expected freeze of at least 1"
        )
    if transfer.mixing == "features":
        reason = why_not_in_features(config)
        if reason is not None:
            raise ValueError(f"transfer.mixing: got features, but {reason}")
    if transfer.cache:
        reason = why_not_cached(config)
        if reason is not None:
            raise ValueError(f"transfer.cache: got true, but {reason}")


def _check_layers(transfer: TransferConfig, model: str) -> None:
    stages = models.MODELS[model].stages
    wanted = [("freeze", transfer.freeze), *(("unfreeze", p["down_to"]) for p in transfer.points)]
    for field, number in wanted:
        if isinstance(number, int) and number > len(stages):
            raise ValueError(
                f"transfer.{field}: got layer {number}, expected at most {len(stages)}, the layers "
                f"of {model}: {', '.join(stages)}"
            )


def _check_points(transfer: TransferConfig, epochs: int) -> None:
    before: tuple[float, moments.Moment] = (0.0, "the start")
    for number, point in enumerate(transfer.points, start=1):
        where = f"transfer.unfreeze: {number}, at: got {point['at']}"
        share = _share(point["at"], epochs)
        if share is None:
            continue
        if share >= 1:
            raise ValueError(
                f"{where}, expected before the end of the training, which has {epochs} "
                f"epoch{'s' * (epochs > 1)}"
            )
        if share <= before[0]:
            raise ValueError(f"{where}, expected after {before[1]}")
        before = (share, point["at"])


def _share(moment: moments.Moment, epochs: int) -> float | None:
    """How much of the training is done then, at the latest; None for a plateau without a limit."""
    if isinstance(moment, float):
        return moment
    if moments.is_fixed(moment):
        return int(moment.partition(" ")[2]) / epochs
    limit = moments.latest(moment)
    return None if limit is None else _share(limit, epochs)
