"""The base class of every method: common parameters, and how a batch is mixed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from mixbench.augmentations.card import Card, Paper
from mixbench.augmentations.home import IMAGE, RECTANGLES, Home, flat
from mixbench.augmentations.parameters import CLASS_PAIRINGS, PAIRINGS, parameter, prob_parameter

if TYPE_CHECKING:
    import torch

    from mixbench.augmentations.bank import Bank
    from mixbench.augmentations.forward import Forward
    from mixbench.augmentations.plans.base import Batch, Plan
    from mixbench.augmentations.sampling.draws import Draws
    from mixbench.augmentations.sampling.operations import Normalisation

__all__ = [
    "IMAGE",
    "PAIRINGS",
    "RECTANGLES",
    "Card",
    "Home",
    "Method",
    "Paper",
    "flat",
    "parameter",
    "prob_parameter",
]

NEEDS = ("images", "labels", "masks", "model", "bank", "normalisation")
"""What a method may need beside the shape of a batch; see `Method.sample`."""


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
    card: ClassVar[Card | None] = None
    """When to use it, and suggested values: for the documentation."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """What `draw` reads of `NEEDS`, as `draws.images` and so on; `sample` then needs it.

    A method whose parameters decide calls `also_needs` in `check_combination`."""
    needs_images: ClassVar[bool] = False
    """Another way to declare `needs = frozenset({"images"})`; always agrees with `needs`."""
    asks: ClassVar[frozenset[str]] = frozenset()
    """What it asks `draws.model`, of `ASKS`; checked with the network before a training."""
    passes: ClassVar[float] = 0.0
    """Forward passes for a batch beyond the usual one; a backward pass counts 2."""
    revision: ClassVar[int] = 1
    """One more each time the same parameters and seed begin to draw other plans; part of a run's
    key."""
    label_rule: ClassVar[str] = "pixels"
    """What label weights are: "pixels" (each source's share of the image), "kept" (labels are not
    mixed) or "declared" (a rule of the method's own, which its docstring states)."""

    prob: float = prob_parameter(1.0)
    per_sample: bool = parameter(
        False, "draw the strength and the region per sample, not per batch"
    )
    pairing: str = parameter(
        "permute",
        "who is mixed with whom: a random permutation, one without self-pairs, the next sample, "
        "the batch reversed, another sample of the same class, or one of another class",
        choices=PAIRINGS,
    )

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if vars(cls).get("needs_images"):
            cls.needs = cls.needs | {"images"}
        cls.needs_images = "images" in cls.needs

    def __post_init__(self) -> None:
        for field in fields(self):
            try:
                value = field.metadata["rule"].parse(getattr(self, field.name))
            except ValueError as error:
                raise ValueError(f"{self.name}.{field.name}: {error}") from None
            object.__setattr__(self, field.name, value)
        if self.pairing in CLASS_PAIRINGS:
            self.also_needs("labels")
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

    def also_needs(self, *names: str) -> None:
        """Declare more of `NEEDS` for this instance: for `check_combination`."""
        needs = self.needs | set(names)
        object.__setattr__(self, "needs", needs)
        object.__setattr__(self, "needs_images", "images" in needs)

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

    def varied(self) -> Self:
        """Return the method drawing per sample, or as it is where it has to draw per batch."""
        return replace(self, per_sample=True)

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

    @property
    def has_loss(self) -> bool:
        """Whether batches have another loss than that of their mixed images."""
        return type(self).loss is not Method.loss

    def loss(
        self,
        forward: Forward,
        clean: Batch,  # noqa: ARG002  (for methods that override it)
        mixed: Batch,
    ) -> torch.Tensor:
        """Return the loss of a training batch; methods with several views or terms override it.

        It draws nothing: called again with the same batches, it is the same.

        Args:
            forward: `forward(batch)` returns logits (B, num_classes), `forward.loss(targets,
                logits)` the loss of the training, with its label smoothing and class weights.
            clean: The batch before mixing: images, their own labels, a plan that changes nothing.
            mixed: The mixed batch.

        Returns:
            A number, float32, with gradients for the network.
        """
        return forward.loss(mixed.targets, forward(mixed))

    def remember(  # noqa: B027  (optional hook)
        self, bank: Bank, clean: Batch, mixed: Batch, logits: torch.Tensor | None
    ) -> None:
        """Keep in an empty bank what the next batch needs, after `loss`: with `needs` "bank".

        Args:
            bank: Set its attributes to tensors that are detached.
            clean: As in `loss`.
            mixed: As in `loss`.
            logits: Of the first pass with `mixed`, detached; None if `loss` made none.
        """

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
        labels: torch.Tensor | None = None,
        masks: torch.Tensor | None = None,
        model: Any = None,
        bank: Bank | None = None,
        normalisation: Normalisation | None = None,
        drawn: list[Method] | None = None,
    ) -> Plan:
        """Draw a plan for a batch; the plan holds no randomness. Nothing waits for the device.

        A method is given what it declares in `needs`, and nothing else of what is passed.

        Args:
            shape: (B, C, H, W) of the images.
            device: Where the plan's tensors will be.
            generator: Source of the random numbers, on that device; None for its default generator.
                All workers of a DataLoader have copies of one from the main process: seed it there
                from `torch.utils.data.get_worker_info().seed`.
            images: The batch itself (B, C, H, W), for a method whose decision depends on it.
            labels: Its labels, (B,) int64 or (B, num_classes) floating point.
            masks: Where its objects are, (B, H, W).
            model: What may be asked of the network that is trained.
            bank: Earlier batches; an empty one before the first step.
            normalisation: (mean, std), with which images from 0 to 1 were normalised; or (0, 1).
            drawn: Takes the methods that a `choice` per batch draws, the outermost first.

        Returns:
            A plan for B samples.

        Raises:
            ValueError: `shape` is not four positive numbers, the generator is on another device, or
                something is needed and missing.

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
        passed: dict[str, Any] = {"images": images, "labels": labels, "masks": masks}
        passed |= {"model": model, "bank": bank, "normalisation": normalisation}
        given: dict[str, Any] = {name: passed[name] for name in NEEDS if name in self.needs}
        if self.needs:
            self._check_given(given, shape[0])
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
            drawn=drawn,
            **given,
        )
        return self.decide(draws).expand(batch)

    def _check_given(self, given: Mapping[str, Any], batch: int) -> None:
        """ValueError where what the method needs is missing, or is of another batch."""
        for name, value in given.items():
            if value is None:
                which = "them" if name in ("images", "labels", "masks") else "it"
                hint = "; (0, 1) for images from 0 to 1" if name == "normalisation" else ""
                text = f"expected {name}=, as what it draws depends on {which}, got None{hint}"
                raise ValueError(f"{self.name}: {text}")
            if name in ("labels", "masks") and len(value) != batch:
                raise ValueError(
                    f"{self.name}: expected {name} of a batch of {batch}, got {tuple(value.shape)}"
                )

    def __call__(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        num_classes: int | None = None,
        generator: torch.Generator | None = None,
        *,
        masks: torch.Tensor | None = None,
        model: Any = None,
        bank: Bank | None = None,
        normalisation: Normalisation | None = None,
    ) -> Batch:
        """Mix a batch: draw a plan and apply it to images and labels.

        Args:
            images: (B, C, H, W) floating point; not changed.
            labels: (B,) int64 classes, -100 for an ignored one, or (B, num_classes) floating point,
                soft or multi-label; on the device of the images.
            num_classes: The number of classes, to check the labels with; None leaves that out.
            generator: Source of the random numbers, on the images' device; None for its default
                generator.
            masks: As `sample`, as are `model` and `bank`: for a method that needs them.
            model: What may be asked of the network that is trained.
            bank: Earlier batches.
            normalisation: As `sample`.

        Returns:
            A `Batch` with `images` (same shape, dtype, device and memory format; the same
            tensor for `none`), `targets` and `plan`.

        Raises:
            ValueError: Images or labels have another shape or dtype, or are on another device.
        """
        from mixbench.augmentations.checks import check_images, check_labels
        from mixbench.augmentations.plans.base import Batch

        check_images(images)
        if "labels" in self.needs:
            # Before they are looked at; the plan checks them again where it mixes them.
            check_labels(labels, len(images), num_classes, images.device)
        drawn: list[Method] = []
        plan = self.sample(
            images.shape,
            device=images.device,
            generator=generator,
            images=images,
            labels=labels,
            masks=masks,
            model=model,
            bank=bank,
            normalisation=normalisation,
            drawn=drawn,
        )
        targets = plan.mix_labels(labels, num_classes)
        return Batch(plan.mix_images(images), targets, plan, tuple(drawn))
