"""What one run is: a frozen, fully resolved configuration, and the keys that identify it.

Nothing here imports torch: a grid is checked before any worker starts.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from mixbench.experiments.config import datasets, messages, models, rules
from mixbench.experiments.config import keys as identity
from mixbench.experiments.config import staging as phases
from mixbench.experiments.config import weights as sources
from mixbench.experiments.config.staging import StagingConfig
from mixbench.experiments.config.transfer import TransferConfig
from mixbench.experiments.errors import UserError, unknown
from mixbench.experiments.section import Number, Section, section_in


class DatasetConfig(Section):
    """Which images, how many, and how they are split."""

    name: str
    train_size: int | None = Field(None, ge=1)
    train_fraction: Number | None = Field(None, gt=0, le=1)
    validation_fraction: Number = Field(0.1, gt=0, lt=1)
    split_seed: int = Field(0, ge=0)
    image_size: int | None = Field(None, ge=8, le=1024)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return datasets.info(name).name

    @model_validator(mode="after")
    def _one_size(self) -> DatasetConfig:
        if self.train_size is not None and self.train_fraction is not None:
            raise ValueError("give train_size or train_fraction, not both")
        return self


class ModelConfig(Section):
    """Which network. `width` is for our own models, `small_stem` for timm's.

    `input_size` is the size to which images are brought on the device, after they are mixed; None
    leaves them as they are.
    """

    name: str = "small_cnn"
    width: int | None = Field(None, ge=1, le=1024)
    small_stem: bool = False
    input_size: int | None = Field(None, ge=8, le=1024)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        models.check(name)
        return name

    @model_validator(mode="after")
    def _fits(self) -> ModelConfig:
        models.check_options(self.name, width=self.width, small_stem=self.small_stem)
        return self


class TrainingConfig(Section):
    """How the network is trained.

    `warmup` is the fraction of the steps with a rising rate; None takes what is usual for the
    schedule, as None in `crop_padding` and `flip` takes what is usual for the data set. With
    `devices` (None: one) that many ranks train together, and `batch_size` is that of all of them.
    `optimiser` None is sgd; adamw has no momentum and nesterov.
    """

    epochs: int = Field(30, ge=1)
    batch_size: int = Field(128, ge=1)
    learning_rate: Number = Field(0.1, gt=0)
    momentum: Number = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: Number = Field(5e-4, ge=0)
    optimiser: Literal["sgd", "adamw"] | None = None
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    warmup: Number | None = Field(None, ge=0, lt=1)
    label_smoothing: Number = Field(0.0, ge=0, lt=1)
    crop_padding: int | None = Field(None, ge=0, le=64)
    flip: bool | None = None
    amp: bool = True
    channels_last: bool = True
    devices: int | None = Field(None, ge=1, le=4096)

    @field_validator("devices")
    @classmethod
    def _one_is_none(cls, devices: int | None) -> int | None:
        # Unset, so that the two ways of saying it are the same run.
        return None if devices == 1 else devices

    @field_validator("optimiser")
    @classmethod
    def _sgd_is_none(cls, optimiser: str | None) -> str | None:
        return None if optimiser == "sgd" else optimiser

    @model_validator(mode="after")
    def _momentum_is_for_sgd(self) -> TrainingConfig:
        fields = TrainingConfig.model_fields
        for name in ("momentum", "nesterov"):
            # The defaults are in every configuration that is stored.
            if self.optimiser == "adamw" and getattr(self, name) != fields[name].default:
                raise ValueError(f"{name}: is for optimiser sgd; leave it out with adamw")
        return self

    @model_validator(mode="after")
    def _images_for_every_device(self) -> TrainingConfig:
        if self.devices is not None and self.batch_size < 2 * self.devices:
            raise ValueError(
                f"batch_size: got {self.batch_size}, expected at least {2 * self.devices}, two "
                f"images for each of the {self.devices} devices"
            )
        return self

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> TrainingConfig:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class OcclusionConfig(Section):
    """Accuracy on images of which a part is hidden; `images` None means the whole test set."""

    shapes: tuple[Literal["centre", "patches"], ...] = ("centre", "patches")
    fractions: tuple[Annotated[Number, Field(gt=0, lt=1)], ...] = (0.1, 0.25, 0.5, 0.75)
    images: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)

    @field_validator("shapes", "fractions")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) != len(values):
            raise ValueError("each value once")
        return values

    @field_validator("fractions")
    @classmethod
    def _rising(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(values))


class EvaluationConfig(Section):
    """What is measured after training."""

    batch_size: int = Field(500, ge=1)
    ece_bins: int = Field(15, ge=2, le=1000)
    occlusion: OcclusionConfig = OcclusionConfig()


class RunConfig(Section):
    """One run: everything that decides its result, and nothing else."""

    dataset: DatasetConfig
    model: ModelConfig = ModelConfig()
    # Validated, so that its parameters are filled in as those of one that is given.
    augmentation: dict[str, Any] = Field(
        default_factory=lambda: {"name": "none"}, validate_default=True
    )
    staging: StagingConfig | None = None
    transfer: TransferConfig | None = None
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: int = Field(0, ge=0, lt=2**63)

    @field_validator("transfer")
    @classmethod
    def _nothing_is_none(cls, transfer: TransferConfig | None) -> TransferConfig | None:
        return None if transfer == TransferConfig() else transfer

    @field_validator("augmentation", mode="before")
    @classmethod
    def _resolve_augmentation(cls, section: Any) -> dict[str, Any]:
        return phases.resolve_section(section)

    @model_validator(mode="after")
    def _resolve_defaults(self) -> RunConfig:
        facts = datasets.info(self.dataset.name)
        self._resolve_weights()
        training = self.training.model_copy(
            update={
                "crop_padding": _or(self.training.crop_padding, facts.crop_padding),
                "flip": _or(self.training.flip, facts.flip),
                "warmup": _or(
                    self.training.warmup, 0.25 if self.training.schedule == "one_cycle" else 0.0
                ),
            }
        )
        object.__setattr__(self, "training", training)
        wanted = self.dataset.train_size
        is_folder = ":" in facts.name
        if wanted is not None and not is_folder and wanted > (facts.train or wanted):
            raise ValueError(
                f"dataset.train_size: got {wanted}, expected at most {facts.train}, the training "
                f"images of {facts.name}"
            )
        if self.model.width is None and self.model.name in models.MODELS:
            width = models.MODELS[self.model.name].default_width
            object.__setattr__(self, "model", self.model.model_copy(update={"width": width}))
        if self.dataset.image_size is None:
            dataset = self.dataset.model_copy(update={"image_size": facts.size})
            object.__setattr__(self, "dataset", dataset)
        object.__setattr__(self, "staging", self._resolved_staging(facts.train))
        rules.check(self)
        check_mixing(self.augmentation, self.staging, self.dataset.image_size, self.model.name)
        return self

    def _resolved_staging(self, images: int | None) -> StagingConfig | None:
        if self.staging is None:
            return None
        dataset, training = self.dataset, self.training
        whole = images or 10**9
        wanted = dataset.train_size or (dataset.train_fraction or 1.0) * whole
        trained = min(wanted, whole) * (1 - dataset.validation_fraction)
        transfer = self.transfer
        gradual = transfer is not None and transfer.unfreeze == "gradual"
        points = transfer.points if transfer else ()
        return phases.resolved(
            self.staging,
            self.augmentation,
            training.epochs,
            max(1, math.ceil(trained / training.batch_size)),
            None if gradual else [point["at"] for point in points],
        )

    def _resolve_weights(self) -> None:
        given = self.transfer.weights if self.transfer else None
        weights, name = sources.for_model(given, self.model.name)
        if self.transfer is not None and weights != given:
            transfer = self.transfer.model_copy(update={"weights": weights})
            object.__setattr__(self, "transfer", transfer)
        if name != self.model.name:
            object.__setattr__(self, "model", self.model.model_copy(update={"name": name}))

    @property
    def run_key(self) -> str:
        """Identifies the run: 16 hexadecimal digits, the same on every machine."""
        return identity.run_keys(identity.of(self), [self.seed])[0]

    @property
    def cell_key(self) -> str:
        """Identifies the run but for its seed: cells are compared, seeds are paired."""
        return identity.cell_key(identity.of(self))


def parse(raw: Any) -> RunConfig:
    """A `RunConfig` from plain data; UserError naming the field, what came and what is allowed."""
    if not isinstance(raw, dict):
        raise UserError(f"a run is a mapping of sections, got {raw!r}")
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        raise UserError(messages.in_words(error, RunConfig)) from None


def check_mixing(
    augmentation: dict[str, Any], staging: StagingConfig | None, image_size: int | None, model: str
) -> None:
    """Raise UserError for a method that these images are too small for, or this network too short.

    How many layers a network of timm has is known only when it is built.
    """
    stages = models.MODELS[model].stages if model in models.MODELS else None
    for where, mix in phases.methods(augmentation, staging):
        if image_size is not None:
            try:
                mix.check_size(image_size, image_size)
            except ValueError as error:
                raise UserError(f"{where}: {error}") from None
        if stages is not None and mix.deepest > len(stages):
            raise UserError(
                f"{where}: {mix.name} mixes down to layer {mix.deepest}, expected at most "
                f"{len(stages)}, the layers of {model}: {', '.join(stages)}"
            )


def fields() -> dict[str, tuple[str, ...]]:
    """The sections of a run and the keys of each, dotted for the nested ones."""
    found: dict[str, tuple[str, ...]] = {}
    for name, field in RunConfig.model_fields.items():
        section = section_in(field.annotation)
        found[name] = tuple(_keys(section)) if section else ()
    return found


def check_key(key: Any, where: str) -> None:
    """UserError, which names `where`, unless a run has a section, or a dotted key, of this name."""
    section, _, rest = str(key).partition(".")
    known = fields()
    if section not in known:
        raise unknown(f"section in {where}", section, known)
    if rest and known[section] and rest not in known[section]:
        raise unknown(f"key of {section} in {where}", rest, known[section])


def _keys(section: type[BaseModel]) -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        keys.append(name)
        inner = section_in(field.annotation)
        if inner is not None:
            keys += [f"{name}.{key}" for key in _keys(inner)]
    return keys


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
