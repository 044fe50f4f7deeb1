"""The base class of every method: common parameters, and how a batch is mixed."""

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

__all__ = ["IMAGE", "PAIRINGS", "RECTANGLES", "Home", "Method", "Paper", "flat", "parameter"]

PAIRINGS = ("permute", "derange", "roll", "flip")
"""Who is mixed with whom; see `Draws.partners`."""


@dataclass(frozen=True)
class Paper:
    """Where a method comes from.

    Attributes:
        authors: The authors, such as "Yun et al.".
        year: The year of the first version.
        title: The title.
        arxiv: The number on arXiv, such as "1905.04899"; empty for a paper that is not there.
        url: Its address, without https://, if it is not on arXiv.
    """

    authors: str
    year: int
    title: str
    arxiv: str = ""
    url: str = ""

    def __str__(self) -> str:
        place = f"arXiv:{self.arxiv}" if self.arxiv else self.url
        return f"{self.authors} {self.year}, {self.title} ({place})"


RECTANGLES = frozenset({"centre", "boundary", "square"})
"""Hidden parts that are rectangles, or all but one."""
SHAPES = RECTANGLES | {"patches", "blobs"}
FILLS = frozenset({"black", "mean", "noise", "image"})


@dataclass(frozen=True)
class Home:
    """What the training images of a method show in place of parts of an image.

    A network is at home where the same is hidden in a test, which is no robustness: measurements of
    occlusion leave these shapes and fills out of their headline.

    Attributes:
        shapes: Of hidden parts, among "centre", "boundary" (all but a centred rectangle), "square"
            (a rectangle anywhere), "patches" (of a grid) and "blobs".
        fills: Of hidden parts, among "black", "mean" (the data set's colour), "noise" and "image"
            (another image, also where it shines through).

    Examples:
        >>> both = Home(frozenset({"blobs"})) | Home(fills=frozenset({"image"}))
        >>> both.shapes, both.fills
        (frozenset({'blobs'}), frozenset({'image'}))
    """

    shapes: frozenset[str] = frozenset()
    fills: frozenset[str] = frozenset()

    def __or__(self, other: Home) -> Home:
        return Home(self.shapes | other.shapes, self.fills | other.fills)


IMAGE = frozenset({"image"})


def flat(fill: float | str) -> frozenset[str]:
    """Return the home fills of a flat colour, a value of normalised images or "mean".

    Zero is the data set's mean colour. Any other colour is near both of the flat fills there are.
    """
    return frozenset({"mean"}) if fill in ("mean", 0.0) else frozenset({"black", "mean"})


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A mixing augmentation: `sample` draws a plan, and the plan mixes a batch.

    A subclass sets `name`, `summary` and `paper`, declares its parameters with `parameter(...)` and
    defines `draw`. Its module must not import torch at the top (see `augmentations/README.md`).

    Attributes:
        prob: Probability of mixing, applied once per batch, or once per sample with `per_sample`.
        per_sample: Whether strength and region are drawn per sample, not once per batch.
        pairing: Who is mixed with whom, one of `PAIRINGS`.

    Examples:
        >>> import mixbench, torch
        >>> mix = mixbench.create("cutmix", alpha=1.0)
        >>> images, labels = torch.rand(8, 3, 32, 32), torch.arange(8)
        >>> generator = torch.Generator().manual_seed(0)
        >>> batch = mix(images, labels, num_classes=10, generator=generator)
        >>> batch.images.shape
        torch.Size([8, 3, 32, 32])
        >>> batch.targets.dense(10).sum(dim=1)
        tensor([1., 1., 1., 1., 1., 1., 1., 1.])
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[Paper | None] = None
    needs_images: ClassVar[bool] = False
    """Whether `draw` reads `draws.images` (saliency); `sample` then needs them."""
    revision: ClassVar[int] = 1
    """One more each time the same parameters and seed begin to draw other plans; part of a run's
    key."""
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
                value = field.metadata["rule"].parse(getattr(self, field.name))
            except ValueError as error:
                raise ValueError(f"{self.name}.{field.name}: {error}") from None
            object.__setattr__(self, field.name, value)
        self.check_combination()

    def check_combination(self) -> None:  # noqa: B027  (optional hook)
        """Check that the parameters are allowed in combination, once all are set.

        Raises:
            ValueError: They are not; the message names the method and the parameters.
        """

    def check_size(self, height: int, width: int) -> None:  # noqa: B027  (optional hook)
        """Check that images are large enough for the parameters, before any image is read.

        `draw` must refuse the same sizes.

        Args:
            height: Height of the images in pixels.
            width: Width of the images in pixels.

        Raises:
            ValueError: They are too small; the message names the method and the parameter.
        """

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """Copy the method with other parameters, unchecked: for a schedule that has checked them.

        This is twenty times as fast as `dataclasses.replace`, so that every step can have a copy.
        It does not repeat what `check_combination` derives from the parameters.

        Args:
            values: Parameters in their canonical types, by name.
        """
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__, **values)
        return copy

    def parameters_as_json(self) -> dict[str, Any]:
        """Return all parameters as JSON values; nested methods are mappings with a `name`."""
        return {
            field.name: field.metadata["rule"].to_json(getattr(self, field.name))
            for field in fields(self)
        }

    @abstractmethod
    def draw(self, draws: Draws) -> Plan:
        """Draw one plan for a batch.

        Args:
            draws: Describes the batch and draws random numbers. Each of its functions returns
                `draws.rows` rows: one per sample with `per_sample`, else one.

        Returns:
            A plan whose tensors have `draws.rows` rows.
        """

    @property
    def home(self) -> Home | None:
        """What its training images show in place of hidden parts; None if it does not say."""
        return None

    @property
    def deepest(self) -> int:
        """The deepest layer of a network that a plan may apply at (`Plan.depth`); 0: images."""
        return 0

    def decide(self, draws: Draws) -> Plan:
        """Call `draw` with as many rows as `per_sample` asks for, and apply `prob`.

        Methods made of other methods call this.

        Args:
            draws: Random numbers for one batch, with any number of rows.

        Returns:
            A plan of one row, or of one per sample; not yet expanded to the batch.
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
        """Draw a plan for a batch; the plan holds no randomness. Nothing waits for the device.

        Args:
            shape: (B, C, H, W) of the images.
            device: Where the plan's tensors will be.
            generator: Source of the random numbers, on that device; None for its default generator.
                All workers of a DataLoader have copies of one from the main process: seed it there
                from `torch.utils.data.get_worker_info().seed`.
            images: The batch itself (B, C, H, W), for a method whose decision depends on it
                (`needs_images`).

        Returns:
            A plan for B samples.

        Raises:
            ValueError: `shape` is not four positive numbers, the generator is on another device, or
                images are needed and missing.

        Examples:
            >>> import mixbench, torch
            >>> mix = mixbench.create("cutmix")
            >>> plan = mix.sample((4, 3, 32, 32), generator=torch.Generator().manual_seed(0))
            >>> plan.mix_masks(torch.zeros(4, 64, 64, dtype=torch.int64)).shape
            torch.Size([4, 64, 64])
        """
        import torch

        from mixbench.augmentations.sampling.draws import Draws

        if len(shape) != 4 or min(shape) < 1:
            raise ValueError(f"expected a shape (B, C, H, W), all at least 1, got {tuple(shape)}")
        if self.needs_images and images is None:
            raise ValueError(
                f"{self.name}: expected images=, as what it draws depends on them, got None"
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
        """Mix a batch: draw a plan and apply it to images and labels.

        Args:
            images: (B, C, H, W) floating point; not changed.
            labels: (B,) int64 classes, -100 for an ignored one, or (B, num_classes) floating point,
                soft or multi-label; on the device of the images.
            num_classes: The number of classes, to check the labels with; None leaves that out.
            generator: Source of the random numbers, on the images' device; None for its default
                generator.

        Returns:
            A `Batch` with `images` (same shape, dtype, device and memory format; the same
            tensor for `none`), `targets` and `plan`.

        Raises:
            ValueError: Images or labels have another shape or dtype, or are on another device.
        """
        from mixbench.augmentations.checks import check_images
        from mixbench.augmentations.plans.base import Batch

        check_images(images)
        plan = self.sample(images.shape, device=images.device, generator=generator, images=images)
        return Batch(plan.mix_images(images), plan.mix_labels(labels, num_classes), plan)
