"""The section `transfer`: which weights a training starts from, and what of them is frozen.

Nothing here imports torch; `mixbench.experiments.transfer` loads and freezes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mixbench.experiments.config.weights import resolve_weights
from mixbench.experiments.section import Number, Section
from mixbench.experiments.staging import moments

_POINT = "expected gradual, or a list of {at: MOMENT, down_to: LAYER or all}"


class TransferConfig(Section):
    """Which weights a training starts from, what of them is frozen, and until when.

    None stands for: untrained weights, a new head, nothing frozen, one learning rate, mixing in
    pixels, and features cached where they can be.
    """

    weights: str | None = None
    head: Literal["new", "keep"] | None = None
    freeze: int | str | None = None
    unfreeze: tuple[dict[str, Any], ...] | Literal["gradual"] | None = None
    backbone_rate: Number | None = Field(None, gt=0, le=10)
    layer_decay: Number | None = Field(None, gt=0, le=1)
    mixing: Literal["pixels", "features"] | None = None
    cache: bool | None = None

    @field_validator("weights")
    @classmethod
    def _resolve_weights(cls, weights: str | None) -> str | None:
        return None if weights is None else resolve_weights(weights)

    @field_validator("freeze", mode="before")
    @classmethod
    def _canonical_freeze(cls, value: Any) -> Any:
        if isinstance(value, str) and value.strip().isdecimal():
            value = int(value)
        if value is None or value == "none":
            return None
        is_layer = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if is_layer or (isinstance(value, str) and value.strip()):
            return value.strip() if isinstance(value, str) else value
        raise ValueError(
            f"got {value!r}, expected none, all, how many layers (0: the stem alone) or the name "
            "of a module"
        )

    @field_validator("unfreeze", mode="before")
    @classmethod
    def _canonical_unfreeze(cls, value: Any) -> Any:
        if value is None or value == "gradual" or (isinstance(value, list | tuple) and not value):
            return value or None
        if not isinstance(value, list | tuple):
            raise ValueError(f"got {value!r}, {_POINT}")
        return tuple(_point(item, number) for number, item in enumerate(value, start=1))

    @field_validator("head", "mixing", "backbone_rate", "layer_decay")
    @classmethod
    def _default_is_unset(cls, value: Any) -> Any:
        # None, so that both ways of writing it give the same run.
        return None if value in ("new", "pixels", 1) else value

    @model_validator(mode="after")
    def _check_combination(self) -> TransferConfig:
        if self.head == "keep" and self.weights is None:
            raise ValueError("head: got keep, but there are no weights to keep; give weights")
        if self.freeze is None:
            for name in ("unfreeze", "mixing"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name}: got {_short(getattr(self, name))}, but nothing is frozen; give "
                        "freeze"
                    )
        self._check_layers()
        return self

    def _check_layers(self) -> None:
        before = self.freeze + 1 if isinstance(self.freeze, int) else None
        for number, item in enumerate(self.points, start=1):
            lowest = 0 if item["down_to"] == "all" else item["down_to"]
            if before is not None and lowest >= before:
                last = "freeze" if number == 1 else f"unfreezing {number - 1}"
                expected = f"a layer up to {before - 1}, or all" if before > 1 else "all"
                raise ValueError(
                    f"unfreeze: {number}, down_to: got {item['down_to']}, which {last} leaves "
                    f"trained already; expected "
                    + (expected if before > 0 else "no more of them, everything is trained")
                )
            before = lowest

    @property
    def points(self) -> tuple[dict[str, Any], ...]:
        """The unfreezings as written; none where they depend on the network."""
        return self.unfreeze if isinstance(self.unfreeze, tuple) else ()


def _point(item: Any, number: int) -> dict[str, Any]:
    if not isinstance(item, Mapping) or set(item) != {"at", "down_to"}:
        raise ValueError(f"{number}: got {_short(item)}, {_POINT}")
    try:
        at = moments.parse(item["at"])
    except ValueError as error:
        raise ValueError(f"{number}, at: {error}") from None
    if isinstance(at, str) and at.startswith("unfreeze"):
        raise ValueError(
            f"{number}, at: got {item['at']!r}, which is for staging; an unfreezing has a fraction "
            'from 0 to 1, "epoch N" or "plateau N"'
        )
    lowest = item["down_to"]
    if isinstance(lowest, str) and lowest.strip().isdecimal():
        lowest = int(lowest)
    is_layer = isinstance(lowest, int) and not isinstance(lowest, bool) and lowest >= 1
    if lowest != "all" and not is_layer:
        raise ValueError(
            f"{number}, down_to: got {_short(lowest)}, expected the number of the lowest layer "
            "that is trained then, from 1, or all"
        )
    return {"at": at, "down_to": lowest}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
