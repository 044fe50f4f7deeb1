"""The base class of every method: common parameters, and the way from batch to mixed batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from mixbench.augmentations.parameters import parameter

if TYPE_CHECKING:
    import torch

    from mixbench.augmentations.plans.base import Batch, Plan
    from mixbench.augmentations.sampling.draws import Draws

__all__ = ["PAIRINGS", "Method", "Paper", "parameter"]

PAIRINGS = ("permute", "derange", "roll", "flip")


@dataclass(frozen=True)
class Paper:
    """Where a method comes from."""

    authors: str
    year: int
    title: str
    arxiv: str

    def __str__(self) -> str:
        return f"{self.authors} {self.year}, {self.title} (arXiv:{self.arxiv})"


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A mixing augmentation: a policy whose `sample` draws a plan, which mixes a batch.

    A subclass sets `name`, `summary` and `paper`, declares its parameters with `parameter(...)` and
    writes `draw`. Its module must not import torch at the top (see `augmentations/README.md`).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[Paper | None] = None
    needs_images: ClassVar[bool] = False
    """Whether `draw` looks at `draws.images` (saliency); `sample` must then be given them."""
    revision: ClassVar[int] = 1
    """Raised when the same parameters and seed begin to draw other plans; part of a run's key."""
    label_rule: ClassVar[str] = "pixels"
    """What label weights are: "pixels" (each source's share of the image), "kept" (labels are not
    mixed) or "declared" (a rule of the method's own, which its docstring states)."""

    prob: float = parameter(
        1.0,
        "probability of mixing, applied once per batch, or once per sample with per_sample",
        at_least=0,
        at_most=1,
    )
    per_sample: bool = parameter(
        False, "draw the strength and the region per sample, not per batch"
    )
    pairing: str = parameter(
        "permute",
        "who is mixed with whom: a random permutation, one without self-pairs, the next sample, "
        "or the batch reversed",
        choices=PAIRINGS,
    )

    def __post_init__(self) -> None:
        for field in fields(self):
            try:
                value = field.metadata["rule"].check(getattr(self, field.name))
            except ValueError as error:
                raise ValueError(f"{self.name}.{field.name}: {error}") from None
            object.__setattr__(self, field.name, value)
        self.check()

    def check(self) -> None:  # noqa: B027  (optional hook)
        """Raise ValueError for parameters that are allowed one by one but not together."""

    def check_size(self, height: int, width: int) -> None:  # noqa: B027  (optional hook)
        """Raise ValueError, naming the parameter, where images of this size are too small for it.

        So that who knows the size can ask before any image is read; `draw` must refuse it anyway.
        """

    def having(self, values: Mapping[str, Any]) -> Self:
        """A copy with other parameters, not checked: for a schedule that has checked its values.

        A twentieth of what `dataclasses.replace` takes, so that it can be had for every step. What
        `check` derives from the parameters is not derived again.
        """
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, **values)
        return made

    @abstractmethod
    def draw(self, draws: Draws) -> Plan:
        """One plan for the batch that `draws` describes, everything random taken from `draws`.

        Tensors of the plan have one row per sample when `per_sample`, else one row; `draws.rows`
        is that number, and every function of `draws` returns that many rows.
        """

    @property
    def deepest(self) -> int:
        """The deepest layer of a network that a plan may apply at (`Plan.depth`); 0: images."""
        return 0

    def decide(self, draws: Draws) -> Plan:
        """`draw` with as many rows as `per_sample` says, and `prob`; not expanded to the batch.

        `draws` may have any number of rows: the way in for methods that are made of methods.
        """
        rows = draws.batch if self.per_sample else 1
        if draws.rows != rows:
            draws = replace(draws, rows=rows)
        plan = self.draw(draws)
        return plan if self.prob == 1 else plan.only_where(draws.coin(self.prob))

    def sample(
        self,
        shape: Sequence[int],
        *,
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
        images: torch.Tensor | None = None,
    ) -> Plan:
        """Draw a plan for a batch of `shape` (B, C, H, W); the plan holds no randomness.

        `generator` None: the default generator of `device`. No host synchronisation. `images`: the
        batch itself, for a method whose decision depends on it (`needs_images`).
        Raises ValueError when `shape` is not four positive numbers, the generator is of another
        device, or images are needed and not given.
        """
        import torch

        from mixbench.augmentations.sampling.draws import Draws

        if len(shape) != 4 or min(shape) < 1:
            raise ValueError(f"expected a shape (B, C, H, W), all at least 1, got {tuple(shape)}")
        if self.needs_images and images is None:
            raise ValueError(
                f"{self.name}: expected images=, for its decision depends on them, got None"
            )
        if generator is not None and not isinstance(generator, torch.Generator):
            raise ValueError(
                f"generator: expected a torch.Generator or None, got {type(generator).__name__}"
            )
        if generator is not None and generator.device.type != torch.device(device).type:
            raise ValueError(
                f"generator: expected one on {device}, as the plan, got {generator.device}"
            )
        batch, _, height, width = shape
        draws = Draws(
            rows=batch if self.per_sample else 1,
            batch=batch,
            height=height,
            width=width,
            device=device,
            generator=generator,
            images=images if self.needs_images else None,
        )
        return self.decide(draws).expand(batch)

    def __call__(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        num_classes: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Batch:
        """Mix a batch: draw a plan, apply it to images and labels.

        images: (B, C, H, W) floating point, untouched. labels: (B,) int64, or (B, num_classes)
        floating point. Returns a `Batch` with `images` (same shape, dtype, device and memory
        format; the very same tensor for `none`), `targets` and `plan`.
        Raises ValueError for images or labels of another shape or dtype, or on another device.
        """
        from mixbench.augmentations.checks import check_images
        from mixbench.augmentations.plans.base import Batch

        check_images(images)
        plan = self.sample(images.shape, device=images.device, generator=generator, images=images)
        return Batch(plan.mix_images(images), plan.mix_labels(labels, num_classes), plan)
