"""The section `training:` of a run's configuration."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from mixbench.experiments.section import Number, Section, as_number

CROP_SCALE = (0.08, 1.0)
"""The shares of a picture's area that random resized crops have by default."""
SAM_RHO = 0.05
"""How far sam goes from the weights by default, as in its paper."""


class EmaConfig(Section):
    """An exponential moving average of the weights, as timm's ModelEmaV3 keeps it.

    `decay` is the share of the average that a step leaves; with `warmup` it grows up to that over
    the steps. `evaluate: instead` validates, measures and hands on the average instead of the last
    weights; `beside` gives it metrics of its own, `ema/...`.
    """

    decay: Number = Field(gt=0, lt=1)
    warmup: bool = False
    evaluate: Literal["instead", "beside"] = "instead"

    @model_validator(mode="before")
    @classmethod
    def _decay_alone(cls, given: Any) -> Any:
        """Accept `ema: 0.999`."""
        if isinstance(given, dict | EmaConfig):
            return given
        decay = as_number(given)
        if type(decay) not in (int, float):
            raise ValueError(
                f"got {given!r}, expected a decay such as 0.999, or {{decay: 0.999, evaluate: "
                "beside}"
            )
        return {"decay": decay}


class SwaConfig(Section):
    """The mean of the weights at the ends of all epochs after the share `from` of the training."""

    # Named as the phases of a staging name it; `from` is no name in Python.
    model_config = ConfigDict(validate_by_name=False, serialize_by_alias=True)
    start: Number = Field(0.75, alias="from", gt=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _start_alone(cls, given: Any) -> Any:
        """Accept `swa: 0.75`."""
        if isinstance(given, dict | SwaConfig):
            return given
        start = as_number(given)
        if type(start) not in (int, float):
            raise ValueError(f"got {given!r}, expected a share of the training, or {{from: 0.75}}")
        return {"from": start}


class GradientNoiseConfig(Section):
    """Gradient noise, measured beside the training, after every `every`-th epoch and the last.

    `batches` batches of training images are mixed `draws` times each; the training itself stays the
    same, bit by bit. `seed` says which images and which draws.
    """

    every: int = Field(1, ge=1)
    batches: int = Field(4, ge=2, le=1000)
    draws: int = Field(4, ge=2, le=1000)
    seed: int = Field(0, ge=0)


class TrainingConfig(Section):
    """How the network is trained.

    `crop` is what training images are cut to at random: `none`, `pad` (moved by up to
    `crop_padding` pixels) or `resized` (a part with `crop_scale` of the picture's area); `warmup`
    is the fraction of the steps with a rising rate; None is the schedule's default. None in `crop`,
    `crop_padding` and `flip` is the data set's default. `devices` is the number of ranks (None:
    one), and `batch_size` is that of all ranks. `optimiser` None is sgd; adamw and lamb (timm's)
    have no momentum and no nesterov. sam makes the steps of `sam_base` (None: sgd) by the gradient
    at weights that are `sam_rho` away (None: 0.05 with sam). `loss` None is that of the task, ce in
    classification; ce is the cross-entropy, bce the binary one of every class, with the mixed
    labels, or with 1 for those whose weight is above `bce_threshold` and 0 for the rest; mse is the
    mean squared error. `class_weights` weigh the loss of each label, in the
    order of the classes; balanced: by one over the class's number of training images. The balanced
    `sampler` draws classes alike. With `repeated_augmentation` each image comes so many times in
    its batch, and an epoch has as many steps with fewer images. `swa` is measured beside what the
    run is judged by, as `swa/...`. `validate_every` epochs, and after the last one, the network is
    measured on the validation split (None: after every epoch).
    """

    epochs: int = Field(30, ge=1)
    batch_size: int = Field(128, ge=1)
    learning_rate: Number = Field(0.1, gt=0)
    momentum: Number = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: Number = Field(5e-4, ge=0)
    optimiser: Literal["sgd", "adamw", "lamb", "sam"] | None = None
    sam_rho: Number | None = Field(None, gt=0)
    sam_base: Literal["sgd", "adamw"] | None = None
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    warmup: Number | None = Field(None, ge=0, lt=1)
    label_smoothing: Number = Field(0.0, ge=0, lt=1)
    loss: Literal["ce", "bce", "mse"] | None = None
    bce_threshold: Number | None = Field(None, ge=0, lt=1)
    ema: EmaConfig | None = None
    swa: SwaConfig | None = None
    class_weights: Literal["balanced"] | tuple[float, ...] | None = None
    sampler: Literal["balanced"] | None = None
    repeated_augmentation: int | None = Field(None, ge=1, le=1024)
    crop: Literal["none", "pad", "resized"] | None = None
    crop_scale: tuple[float, float] | None = None
    crop_padding: int | None = Field(None, ge=0, le=64)
    flip: bool | None = None
    amp: bool = True
    channels_last: bool = True
    devices: int | None = Field(None, ge=1, le=4096)
    gradient_noise: GradientNoiseConfig | None = None
    validate_every: int | None = Field(None, ge=1)

    @property
    def base_optimiser(self) -> str:
        """Return what makes the steps: the optimiser, or that which sam has as its base."""
        return (self.sam_base if self.optimiser == "sam" else self.optimiser) or "sgd"

    def validates(self, epoch: int) -> bool:
        """Tell whether the network is measured on the validation split after `epoch` (from 1)."""
        return epoch == self.epochs or epoch % (self.validate_every or 1) == 0

    @property
    def measures_average(self) -> bool:
        """Tell whether the averaged weights are measured instead of the last ones."""
        return self.ema is not None and self.ema.evaluate == "instead"

    @property
    def averages_beside(self) -> tuple[str, ...]:
        """Return which averages of the weights have metrics of their own, `NAME/...`."""
        ema = self.ema is not None and self.ema.evaluate == "beside"
        return tuple(name for name, wanted in (("ema", ema), ("swa", self.swa)) if wanted)

    @property
    def random_crops(self) -> tuple[float, float] | None:
        """Return the shares of the area that random resized crops have; None without such crops."""
        return (self.crop_scale or CROP_SCALE) if self.crop == "resized" else None

    @model_validator(mode="before")
    @classmethod
    def _crop_with_its_scale(cls, values: Any) -> Any:
        """Accept `crop: {name: resized, scale: [0.5, 1]}`, as methods are written."""
        if not isinstance(values, dict) or not isinstance(values.get("crop"), dict):
            return values
        crop = values["crop"]
        if "name" not in crop or set(crop) - {"name", "scale"}:
            raise ValueError(
                f"crop: got {crop!r}, expected none, pad, resized or "
                "{name: resized, scale: [0.08, 1]}"
            )
        scale = {"crop_scale": crop["scale"]} if "scale" in crop else {}
        return {**values, **scale, "crop": crop["name"]}

    @field_validator("crop_scale", mode="before")
    @classmethod
    def _check_scale(cls, given: Any) -> tuple[float, float] | None:
        if given is None:
            return None
        low, high = two_numbers(given, "shares of a picture's area, such as [0.08, 1]", equal=True)
        if low <= 0 or high > 1:
            raise ValueError(f"got {given!r}, expected shares above 0 and at most 1")
        return low, high

    @model_validator(mode="after")
    def _check_crop(self) -> TrainingConfig:
        if self.crop_scale is not None and self.crop not in (None, "resized"):
            raise ValueError(f"crop_scale: is for crop: resized, not {self.crop}")
        if self.crop_padding and (self.crop in ("none", "resized") or self.crop_scale is not None):
            raise ValueError(f"crop_padding: is for crop: pad, not {self.crop or 'crop_scale'}")
        if self.crop == "pad" and self.crop_padding == 0:
            raise ValueError("crop_padding: got 0, expected at least 1 with crop: pad")
        return self

    @field_validator("devices", "repeated_augmentation", "validate_every")
    @classmethod
    def _one_is_unset(cls, number: int | None) -> int | None:
        # Unset, so that both ways of writing it give the same run.
        return None if number == 1 else number

    @model_validator(mode="after")
    def _check_repeats(self) -> TrainingConfig:
        repeats = self.repeated_augmentation
        if repeats is not None and self.batch_size % repeats:
            raise ValueError(
                f"repeated_augmentation: got {repeats}, expected a divisor of the batch_size "
                f"{self.batch_size}, as each image comes so many times in its batch"
            )
        return self

    @field_validator("optimiser", "sam_base")
    @classmethod
    def _sgd_is_unset(cls, optimiser: str | None) -> str | None:
        return None if optimiser == "sgd" else optimiser

    @model_validator(mode="after")
    def _check_options_of_the_optimiser(self) -> TrainingConfig:
        fields, base = TrainingConfig.model_fields, self.base_optimiser
        for name in ("sam_rho", "sam_base"):
            given = getattr(self, name)
            if given is not None and self.optimiser != "sam":
                raise ValueError(f"{name}: got {given}, but it is for optimiser: sam, not {base}")
        for name in ("momentum", "nesterov"):
            # Stored configurations hold the defaults, so those are accepted.
            if base != "sgd" and getattr(self, name) != fields[name].default:
                raise ValueError(f"{name}: is for optimiser sgd; leave it out with {base}")
        return self

    @field_validator("class_weights", mode="before")
    @classmethod
    def _check_weights(cls, given: Any) -> Any:
        if given is None or given == "balanced":
            return given
        values = [as_number(value) for value in given] if isinstance(given, list | tuple) else []
        numbers = [float(value) for value in values if type(value) in (int, float)]
        # Weights of the least and the largest size that float32 divides and adds up.
        fine = all(1e-6 <= number <= 1e6 for number in numbers)
        if not numbers or len(numbers) != len(values) or not fine:
            raise ValueError(
                f"got {given!r}, expected balanced, or a list of numbers above 0, one for each "
                "class (from 1e-6 to 1e6)"
            )
        return tuple(numbers)

    @model_validator(mode="after")
    def _check_balanced_once(self) -> TrainingConfig:
        if self.class_weights == self.sampler == "balanced":
            raise ValueError(
                "class_weights: got balanced, but sampler: balanced draws classes alike already; "
                "leave one of the two out"
            )
        return self

    @model_validator(mode="after")
    def _check_threshold(self) -> TrainingConfig:
        if self.bce_threshold is not None and self.loss != "bce":
            raise ValueError(
                f"bce_threshold: got {self.bce_threshold}, but it is for loss: bce, not "
                f"{self.loss or 'ce'}"
            )
        return self

    @model_validator(mode="after")
    def _check_images_per_device(self) -> TrainingConfig:
        if self.devices is not None and self.batch_size < 2 * self.devices:
            raise ValueError(
                f"batch_size: got {self.batch_size}, expected at least {2 * self.devices}, two "
                f"images for each of the {self.devices} devices"
            )
        return self

    @model_validator(mode="after")
    def _check_noise(self) -> TrainingConfig:
        if self.gradient_noise is not None and self.devices is not None:
            raise ValueError(
                f"gradient_noise: is measured on one device, but devices is {self.devices}"
            )
        return self

    @model_validator(mode="after")
    def _check_nesterov(self) -> TrainingConfig:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


def two_numbers(given: Any, what: str, *, equal: bool = False) -> tuple[float, float]:
    """Return two finite numbers in ascending order; ValueError for anything else."""
    values = [as_number(value) for value in given] if isinstance(given, list | tuple) else []
    numbers = [float(value) for value in values if type(value) in (int, float)]
    if len(values) != 2 or len(numbers) != 2 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"got {given!r}, expected two numbers: {what}")
    low, high = numbers
    if low > high or (low == high and not equal):
        raise ValueError(f"got {given!r}, expected the smaller number first: {what}")
    return low, high
