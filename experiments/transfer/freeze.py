"""Which parts of a network are trained, and when the frozen ones begin to be.

What is frozen is what comes first, up to a boundary: its parameters have no gradient, so that the
optimiser leaves them alone (weight decay too), and its modules are in evaluation mode, so that the
statistics of batch normalisation stay as they are. An unfreezing moves the boundary down. The
classifier is never frozen.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mixbench.augmentations.parameters import nearest
from mixbench.experiments.config.transfer import TransferConfig
from mixbench.experiments.errors import UserError
from mixbench.experiments.staging.moments import Moment
from mixbench.experiments.transfer.layers import Layers, last_within


class Freezing:
    """The frozen part of one network: at first as before any unfreezing, see `unfreeze`.

    UserError for a layer or module that the network does not have, and where nothing is frozen.
    """

    def __init__(self, network: nn.Module, layers: Layers, transfer: TransferConfig | None) -> None:
        self._network = network
        self._layers = layers
        self._transfer = transfer or TransferConfig()
        self.moments: tuple[Moment, ...] = ()
        """When the unfreezings come, in order."""
        self._numbers: dict[str, int] = {}
        # What may be trained: a network's own constants are parameters too.
        self._trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._frozen_after: list[frozenset[str]] = [frozenset()]
        self._frozen_modules: list[nn.Module] = []
        self._unfreezings = 0
        given = self._transfer
        if (given.freeze, given.backbone_rate, given.layer_decay) == (None, None, None):
            return
        try:
            self._numbers = layers.numbers(network)
        except ValueError as error:
            raise UserError(f"transfer: {error}") from None
        if given.freeze is not None:
            frozen = self._first_frozen(given.freeze)
            points = self._points(frozen)
            self.moments = tuple(at for at, _ in points)
            self._frozen_after = [frozen]
            for _, lowest in points:
                frozen = frozenset(name for name in frozen if self._numbers[name] < lowest)
                self._frozen_after.append(frozen)
            self._apply_to_modules()

    @property
    def frozen(self) -> frozenset[str]:
        """The names of the modules of which the own parameters and buffers are frozen now."""
        return self._frozen_after[self._unfreezings]

    def metrics(self) -> dict[str, float]:
        """For the metrics of an epoch: the share of the parameters that are trained."""
        if self._transfer.freeze is None:
            return {}
        trained = sum(p.numel() for p in self._trainable.values() if p.requires_grad)
        return {"transfer/trained": trained / sum(p.numel() for p in self._trainable.values())}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters, each with a factor of the learning rate, for `optimiser_for`.

        They include frozen ones, which the optimiser skips as they have no gradient.
        """
        rate, decay = self._transfer.backbone_rate or 1.0, self._transfer.layer_decay or 1.0
        if rate == decay == 1:
            return [{"params": list(self._network.parameters())}]
        neck = self._layers.neck
        groups: dict[int, dict[str, Any]] = {}
        for name, parameter in self._network.named_parameters():
            number = self._numbers[name.rpartition(".")[0]]
            scale = 1.0 if number > neck else rate * decay ** (neck - number)
            groups.setdefault(number, {"params": [], "scale": scale})["params"].append(parameter)
        return [groups[number] for number in sorted(groups)]

    def train(self) -> None:
        """Training mode for what is trained, evaluation mode for what is frozen."""
        self._network.train()
        for module in self._frozen_modules:
            module.eval()

    def trained_norms(self) -> list[str]:
        """Return the names of the batch normalisations whose statistics are trained now."""
        self.train()
        return [
            name
            for name, module in self._network.named_modules()
            if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
        ]

    def unfreeze(self, unfreezings: int) -> bool:
        """Apply the first so many unfreezings; returns whether that changes what is trained.

        What begins to be trained is put into training mode.
        """
        if unfreezings == self._unfreezings:
            return False
        before = self.frozen
        self._unfreezings = unfreezings
        if self.frozen == before:
            return False
        self._apply_to_modules()
        self.train()
        return True

    def describe_trained(self) -> str:
        """Such as "layers 2 to 3 and the head, 41.5 % of the parameters"."""
        frozen = [self._numbers[name] for name in self.frozen if self._has_parameters(name)]
        trained = [
            number
            for name, number in self._numbers.items()
            if name not in self.frozen and self._has_parameters(name)
        ]
        lowest, depth = min(trained, default=0), len(self._layers.names)
        share = self.metrics().get("transfer/trained", 1.0)
        if not frozen:
            what = "all layers"
        elif lowest > depth:
            what = "the head" if lowest > self._layers.neck else "neck and head"
        else:
            what = f"layer{'s' * (lowest < depth)} {lowest}"
            what += f" to {depth} and the head" if lowest < depth else " and the head"
        return f"{what}, {100 * share:.1f} % of the parameters"

    def _apply_to_modules(self) -> None:
        """Set which parameters have gradients and which modules stay in evaluation mode."""
        for name, parameter in self._trainable.items():
            parameter.requires_grad_(name.rpartition(".")[0] not in self.frozen)
        # Only modules that are frozen with all within them: one that is frozen in part may act
        # itself in training mode, such as by dropout before the classifier.
        trained = [f"{name}." for name in self._numbers if name not in self.frozen]
        self._frozen_modules = [
            self._network.get_submodule(name)
            for name in self._numbers
            if name in self.frozen
            and not any(not name or one.startswith(f"{name}.") for one in trained)
        ]

    def _first_frozen(self, freeze: int | str) -> frozenset[str]:
        """The modules that are frozen before any unfreezing."""
        neck, order = self._layers.neck, list(self._numbers)
        if isinstance(freeze, int):
            self._check_layer("freeze", freeze)
            chosen = [name for name in order if self._numbers[name] <= freeze]
        elif freeze == "all":
            chosen = [name for name in order if self._numbers[name] <= neck]
        else:
            last = last_within(self._checked_module(freeze), order)
            chosen = [name for name in order[: last + 1] if self._numbers[name] <= neck]
        frozen = frozenset(chosen)
        if not any(self._has_parameters(name) for name in frozen):
            raise UserError(
                f"transfer.freeze: got {freeze!r}, but nothing up to there has a parameter"
            )
        return frozen

    def _checked_module(self, freeze: str) -> str:
        """The module's name; UserError unless the network has it, before its classifier."""
        names = self._layers.names
        if freeze not in self._numbers:
            raise UserError(
                f"transfer.freeze: the network has no module {freeze!r}"
                f"{nearest(freeze, self._numbers)} Its layers 1 to {len(names)}: "
                f"{', '.join(names)}"
            )
        if self._numbers[freeze] > self._layers.neck:
            raise UserError(
                f"transfer.freeze: {freeze!r} is the classifier, which is always trained; all "
                "freezes everything before it"
            )
        return freeze

    def _points(self, frozen: frozenset[str]) -> list[tuple[Moment, int]]:
        """The unfreezings: when, and the lowest layer that is trained from then on."""
        unfreeze = self._transfer.unfreeze
        if unfreeze is None:
            return []
        if unfreeze == "gradual":
            # The neck is trained with the last layer.
            depth = len(self._layers.names)
            layers = {
                min(self._numbers[name], depth) for name in frozen if self._has_parameters(name)
            }
            steps = sorted(layers, reverse=True)
            return [(number / (len(steps) + 1), low) for number, low in enumerate(steps, start=1)]
        points = []
        for item in unfreeze:
            lowest = 0 if item["down_to"] == "all" else item["down_to"]
            self._check_layer("unfreeze", lowest)
            points.append((item["at"], lowest))
        return points

    def _has_parameters(self, module: str) -> bool:
        """Whether a module has parameters itself, not only in the modules within it."""
        return any(name.rpartition(".")[0] == module for name in self._trainable)

    def _check_layer(self, field: str, number: int) -> None:
        depth = len(self._layers.names)
        if number > depth:
            names = ", ".join(self._layers.names) or "none found; name a module"
            raise UserError(
                f"transfer.{field}: got layer {number}, expected at most {depth}, the network's "
                f"layers: {names}"
            )
