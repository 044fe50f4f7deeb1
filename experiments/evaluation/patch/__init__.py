"""Patch: accuracy with an adversarial patch in the image."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from mixbench.experiments.evaluation.declaration import Listed, Measurement, ascending
from mixbench.experiments.section import Section, as_number


def _share(value: Any) -> Any:
    """Read a share of the image."""
    number = as_number(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= 1:
        raise ValueError(
            f"got {value!r}, expected above 0 and at most 1, the patch's share of the image, such "
            "as 0.1; no patch is larger than the image"
        )
    return float(number)


class PatchSettings(Section):
    """How large patches are, and how hard they are trained.

    Attributes:
        shares: Of the image, that the square patch covers; ascending, each once.
        train_images: How many validation images the universal patch is trained on; None: all.
        train_steps: Its steps, each on `train_batch` of them.
        train_batch: Images of a step.
        steps: Steps of APGD for the patch of one image.
        images: How many test images; None: all.
        seed: Which images, where patches are, and where their training starts.
    """

    shares: Listed[Annotated[float, BeforeValidator(_share)]] = Field(
        (0.05, 0.1, 0.2), min_length=1
    )
    train_images: int | None = Field(500, ge=1)
    train_steps: int = Field(80, ge=1, le=100_000)
    train_batch: int = Field(64, ge=1, le=10_000)
    steps: int = Field(20, ge=1, le=10_000)
    images: int | None = Field(300, ge=1)
    seed: int = Field(0, ge=0)

    _ascending = field_validator("shares")(ascending)


MEASUREMENT = Measurement(
    "patch",
    "accuracy with an adversarial patch, universal or one per image",
    PatchSettings,
    order=55,
    seconds=5.0,
)
