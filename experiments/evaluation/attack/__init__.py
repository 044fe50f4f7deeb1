"""Attack: accuracy under small changes that are made to mislead the network."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from mixbench.experiments.evaluation.declaration import (
    Listed,
    Measurement,
    MeasurementSettings,
    ascending,
)
from mixbench.experiments.section import Number


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
Further = Literal["apgd", "squares"]
LossName = Literal["margin", "log_odds"]


class AttackSettings(MeasurementSettings):
    """How far, and how hard, images are changed to mislead a network.

    Attributes:
        epsilons: Largest changes of a value, in pixels from 0 to 1; ascending, each once.
        steps: Steps of PGD, each of size `stride * epsilon / steps`.
        stride: 2.5 lets PGD reach every point of the ball from every other (Madry et al. 2018).
        images: How many test images; None: all.
        seed: Which images, and where attacks start.
        also: Further attacks: "apgd", steps that adapt; "squares", without gradients.
        losses: What APGD climbs, one after the other.
        restarts: Starts of APGD with each loss.
        apgd_steps: Steps of APGD from each start.
        queries: Tries of the attack of squares.
        source: The key, or its beginning, of a run of the sweep: its network is attacked, and
            the images are shown to this one (transfer). None: no transfer.
        curve: Whether to attack at ε from 1/255 doubled up to 1 too, until accuracy is at chance.
    """

    later: ClassVar[frozenset[str]] = frozenset(
        ("also", "losses", "restarts", "apgd_steps", "queries", "source", "curve")
    )

    epsilons: Listed[Epsilon] = Field((2 / 255, 8 / 255), min_length=1)
    steps: int = Field(10, ge=1, le=1000)
    stride: Number = Field(2.5, gt=0, le=1000)
    images: int | None = Field(1000, ge=1)
    seed: int = Field(0, ge=0)
    also: Listed[Further] = ()
    losses: Listed[LossName] = Field(("margin", "log_odds"), min_length=1)
    restarts: int = Field(2, ge=1, le=1000)
    apgd_steps: int = Field(50, ge=1, le=10_000)
    queries: int = Field(500, ge=1, le=1_000_000)
    source: str | None = Field(None, min_length=4)
    curve: bool = False

    _ascending = field_validator("epsilons")(ascending)

    @field_validator("also", "losses")
    @classmethod
    def _each_once(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(values)))

    @field_validator("source", mode="before")
    @classmethod
    def _key_as_text(cls, value: Any) -> Any:
        # YAML reads a key of digits alone as a number.
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    def step_size(self, epsilon: float) -> float:
        """The size of a step of PGD, `stride * epsilon / steps`.

        Args:
            epsilon: Largest change of a value, in pixels from 0 to 1.

        Returns:
            The size, in pixels from 0 to 1.
        """
        return self.stride * epsilon / self.steps


MEASUREMENT = Measurement(
    "attack",
    "accuracy under FGSM and PGD; by settings also APGD, squares, transfer",
    AttackSettings,
    order=50,
    seconds=4.3,
)
