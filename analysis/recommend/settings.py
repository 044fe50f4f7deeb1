"""What a cell trains with, as far as somebody who wants to use it must know it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mixbench.analysis.tables.nested_methods import KEY
from mixbench.analysis.tables.schedules import ALWAYS, NAME, PHASES
from mixbench.experiments.design.question import TUNE

_SECTION = "augmentation."
_ONLY_PROB = {"from", "to", "prob"}


@dataclass(frozen=True)
class Settings:
    """How a cell mixes.

    Attributes:
        method: Its name.
        parameters: name -> value; lists of methods as such.
        schedule: The name of its schedule; "always" without one.
        begin, end: From which to which share of the training it mixes; None where the schedule is
            more than that.
        label_smoothing: Of the loss.
        loss: "ce" or "bce".
        bce_threshold: Above which weight bce takes a label for whole; None for the weights.
        classes: The number of classes.
        size: The side of the images in pixels.
        features: Whether features are mixed, behind a frozen part of the network.
        normalisation: `dataset.mean` and `dataset.std`; None where they are those of the images.
    """

    method: str
    parameters: Mapping[str, Any]
    schedule: str = ALWAYS
    begin: float | None = 0.0
    end: float | None = 1.0
    label_smoothing: float = 0.0
    loss: str = "ce"
    bce_threshold: float | None = None
    classes: int = 10
    size: int | None = None
    features: bool = False
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @property
    def is_always(self) -> bool:
        """Tell whether it mixes from the first step to the last."""
        return (self.begin, self.end) == (0.0, 1.0)

    @property
    def is_simple(self) -> bool:
        """Tell whether its schedule is always, or a part of the training."""
        return self.begin is not None and self.end is not None


def settings_of(row: Mapping[str, Any], classes: int = 10) -> Settings:
    """Return the settings of a cell.

    Args:
        row: Its configuration with dotted keys, as the table of cells has it.
        classes: Of its data set.
    """
    known = {key: value for key, value in row.items() if value is not None and value == value}
    parameters = {
        key.removeprefix(_SECTION): _value(value)
        for key, value in known.items()
        if key.startswith(_SECTION) and key not in (f"{_SECTION}name", TUNE)
    }
    phases = json.loads(known[PHASES]) if known.get(PHASES) else None
    begin, end, changes = _span(phases)
    size = known.get("dataset.image_size")
    mean, std = (_value(known.get(f"dataset.{key}")) for key in ("mean", "std"))
    return Settings(
        method=str(known["augmentation.name"]),
        parameters={**parameters, **changes},
        schedule=str(known.get(NAME, ALWAYS)),
        begin=begin,
        end=end,
        label_smoothing=float(known.get("training.label_smoothing", 0.0)),
        loss=str(known.get("training.loss", "ce")),
        bce_threshold=known.get("training.bce_threshold"),
        classes=classes,
        size=int(size) if isinstance(size, int | float) else None,
        features=known.get("transfer.mixing") == "features",
        normalisation=None if mean is None else (tuple(mean), tuple(std)),
    )


def _span(phases: Any) -> tuple[float | None, float | None, dict[str, Any]]:
    """Return the part of the training in which a schedule mixes, and the prob that it sets."""
    if not phases:
        return 0.0, 1.0, {}
    first = phases[0]
    ends = first.get("from", 0.0), first.get("to", 1.0)
    prob = first.get("prob")
    is_span = len(phases) == 1 and set(first) <= _ONLY_PROB
    if not is_span or not all(isinstance(each, int | float) for each in ends):
        return None, None, {}
    if prob is not None and not isinstance(prob, int | float):
        return None, None, {}
    return float(ends[0]), float(ends[1]), {} if prob is None else {"prob": float(prob)}


def _value(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value.startswith("[") else value


def loss_of_soft(settings: Settings) -> tuple[str, str]:
    """Return the import of the loss of soft labels, and the line that computes it.

    Examples:
        >>> loss_of_soft(Settings("mixup", {}, loss="bce", bce_threshold=0.2))[1]
        'loss = bce(model(images), soft.gt(0.2).float())'
    """
    functional = "from torch.nn.functional import"
    if settings.loss == "ce":
        return f"{functional} cross_entropy", "loss = cross_entropy(model(images), soft)"
    limit = settings.bce_threshold
    soft = "soft" if limit is None else f"soft.gt({limit:g}).float()"
    return (
        f"{functional} binary_cross_entropy_with_logits as bce",
        f"loss = bce(model(images), {soft})",
    )


def methods_of(settings: Settings) -> list[Mapping[str, Any]]:
    """Return the methods that a method is made of; none for a plain one."""
    return list(settings.parameters.get(KEY.removeprefix(_SECTION)) or ())


def switch(mixer: str, settings: Settings) -> list[str]:
    """Return the line that switches a mixer on and off; none where it mixes all the time."""
    if settings.is_always or not settings.is_simple:
        return []
    return [f"{mixer}.mixup_enabled = {condition(settings)}"]


def condition(settings: Settings) -> str:
    """Return when a batch is mixed, by `epoch` (from 0) and `epochs`.

    Examples:
        >>> condition(Settings("cutmix", {}, "first_50", 0.0, 0.5))
        'epoch < 0.5 * epochs'
    """
    begin, end = settings.begin, settings.end
    if not begin:
        return f"epoch < {end:g} * epochs"
    if end == 1:
        return f"epoch >= {begin:g} * epochs"
    return f"{begin:g} * epochs <= epoch < {end:g} * epochs"
