"""Check before any run that each network has the layers that its run freezes."""

from __future__ import annotations

from collections.abc import Iterable

from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.errors import UserError
from mixbench.experiments.transfer.freeze import Freezing
from mixbench.experiments.transfer.layers import Layers
from mixbench.experiments.transfer.load import meta_network


def check_freezing(runs: Iterable[RunConfig]) -> None:
    """UserError for layers, modules and unfreezings that a run names and its network lacks."""
    networks = {}
    for config in runs:
        transfer = config.transfer
        if transfer is None:
            continue
        shape = (config.model, config.dataset.name, config.dataset.image_size)
        wanted = (transfer.freeze, transfer.backbone_rate, transfer.layer_decay)
        if wanted == (None, None, None):
            continue
        if shape not in networks:
            networks[shape] = meta_network(config)
        network = networks[shape]
        # Undo what a run before has frozen.
        network.requires_grad_(True)
        try:
            freezing = Freezing(network, Layers.of(network, config.model.name), transfer)
        except UserError as error:
            raise UserError(f"{error} (model {config.model.name})") from None
        _check_unfreezings(config, len(freezing.moments))


def _check_unfreezings(config: RunConfig, unfreezings: int) -> None:
    for phase in config.staging.phases if config.staging else ():
        for name in ("from", "to"):
            kind, _, number = str(phase.get(name, "")).partition(" ")
            if kind == "unfreeze" and int(number) > unfreezings:
                raise UserError(
                    f"staging: got {name}: {phase[name]}, but in {config.model.name} "
                    f"transfer.unfreeze is {unfreezings} unfreezing{'s' * (unfreezings != 1)}"
                )
