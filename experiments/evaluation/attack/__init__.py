"""Attack: accuracy under FGSM and PGD."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from mixbench.experiments.evaluation.declaration import Listed, Measurement, ascending
from mixbench.experiments.section import Number, Section


def _epsilon(value: Any) -> Any:
    """Read a number or a fraction, such as 8/255."""
    number: Any = value
    if isinstance(value, str) and value.count("/") == 1:
        over, under = (_as_number(part) for part in value.split("/"))
        number = over / under if over is not None and under else value
    elif isinstance(value, str):
        number = _as_number(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= 1:
        raise ValueError(
            f"got {value!r}, expected above 0 and at most 1, in pixels from 0 to 1, such as 8/255"
        )
    return float(number)


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


Epsilon = Annotated[float, BeforeValidator(_epsilon)]


class AttackSettings(Section):
    """How far, and how hard, images are changed to mislead a network.

    Attributes:
        epsilons: Largest changes of a value, in pixels from 0 to 1; ascending, each once.
        steps: Steps of PGD, each of size `stride * epsilon / steps`.
        stride: 2.5 lets PGD reach every point of the ball from every other (Madry et al. 2018).
        images: How many test images; None: all.
        seed: Which images, and where PGD starts.
    """

    epsilons: Listed[Epsilon] = Field((2 / 255, 8 / 255), min_length=1)
    steps: int = Field(10, ge=1, le=1000)
    stride: Number = Field(2.5, gt=0, le=1000)
    images: int | None = Field(1000, ge=1)
    seed: int = Field(0, ge=0)

    _ascending = field_validator("epsilons")(ascending)

    def step_size(self, epsilon: float) -> float:
        """The size of a step of PGD, `stride * epsilon / steps`.

        Args:
            epsilon: Largest change of a value, in pixels from 0 to 1.

        Returns:
            The size, in pixels from 0 to 1.
        """
        return self.stride * epsilon / self.steps


MEASUREMENT = Measurement("attack", "accuracy under FGSM and PGD", AttackSettings, order=50)
