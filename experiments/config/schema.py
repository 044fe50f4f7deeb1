"""The sections of a run's configuration, frozen, each checked by itself.

`resolve` fills in what depends on more than one section. Nothing here imports torch: a grid is
checked before any worker starts.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from mixbench.experiments.config import datasets, keys, models, normalisation
from mixbench.experiments.config.staging import StagingConfig
from mixbench.experiments.config.streams import StreamsConfig
from mixbench.experiments.config.training import TrainingConfig, two_numbers
from mixbench.experiments.config.transfer import TransferConfig
from mixbench.experiments.config.weights import resolve_weights
from mixbench.experiments.design import tasks
from mixbench.experiments.design.tasks import TaskInfo
from mixbench.experiments.errors import unknown
from mixbench.experiments.section import Number, Section, as_number, section_in
from mixbench.experiments.staging.methods import resolve_method
from mixbench.experiments.staging.moments import Moment

SIDES = (8, 1024)
"""The least and the largest side of images, in pixels."""


class DatasetConfig(Section):
    """Which images, how many, how they are split, and what becomes of their pixels.

    `validation_size` images validate, taken first from those that don't train; then all of
    `train_size` train, and `validation_fraction` says nothing. `image_size` is the side of square
    images, or height and width. `fit` says how a picture of another shape gets it: its middle
    (`crop`), all of it with black borders (`pad`) or distorted (`stretch`); None where no image is
    of another shape. `pixel_range` are the values of black and white of pixels with more than 8
    bits; None: those of the data set. The network knows nothing of `left_out_classes`: no split has
    images of them, and sizes count the rest. With `folds`, one in so many images tests, another
    part in each replicate, and the rest train. `targets` is what is to be told of an image; None:
    one label, or in sets without labels the first of what they have. `domains` train and validate,
    the `target` tests. `mean` and `std` normalise
    pixels from 0 to 1, a number or one for each channel; None: those of the training images.
    `source` identifies a data set of the user's own code, and is filled in.
    With `sound: waveform` clips are mixed as waveforms, and become spectrograms as they enter the
    network; None: before.
    """

    name: str
    train_size: int | None = Field(None, ge=1)
    train_fraction: Number | None = Field(None, gt=0, le=1)
    validation_fraction: Number = Field(0.1, gt=0, lt=1)
    validation_size: int | None = Field(None, ge=1)
    split_seed: int = Field(0, ge=0)
    folds: int | None = Field(None, ge=2, le=100)
    image_size: int | tuple[int, int] | None = None
    fit: Literal["crop", "pad", "stretch"] | None = None
    pixel_range: tuple[float, float] | None = None
    left_out_classes: tuple[str, ...] | None = None
    targets: (
        Literal["labels", "multi_label", "regression", "masks", "boxes", "pairs", "domains"] | None
    ) = None
    domains: tuple[str, ...] | None = None
    target: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    source: str | None = None
    sound: Literal["waveform"] | None = None

    @property
    def classes(self) -> int:
        """Return how many classes the network tells apart."""
        return datasets.info(self.name).classes - len(self.left_out_classes or ())

    @property
    def fold(self) -> int:
        """Which of the `folds` parts of a repetition tests; 0 without folds."""
        return self.split_seed % (self.folds or 1)

    @property
    def sides(self) -> tuple[int, int]:
        """Return height and width of the images in pixels."""
        size = self.image_size or datasets.info(self.name).size
        return (size, size) if isinstance(size, int) else size

    @field_validator("image_size", mode="before")
    @classmethod
    def _check_size(cls, size: Any) -> int | tuple[int, int] | None:
        if size is None:
            return None
        given = list(size) if isinstance(size, list | tuple) else [size]
        sides = [as_number(side) for side in given]
        numbers = [side for side in sides if type(side) in (int, float)]
        fine = len(numbers) == len(sides) in (1, 2) and all(
            SIDES[0] <= side <= SIDES[1] and side == int(side) for side in numbers
        )
        if not fine:
            raise ValueError(
                f"got {size!r}, expected a whole number from {SIDES[0]} to {SIDES[1]}, or "
                "[height, width] of two such numbers"
            )
        whole = [int(side) for side in numbers]
        # A square is one number, so that both ways of writing it give the same run.
        return whole[0] if len(set(whole)) == 1 else (whole[0], whole[1])

    @field_validator("pixel_range", mode="before")
    @classmethod
    def _check_range(cls, given: Any) -> tuple[float, float] | None:
        return None if given is None else two_numbers(given, "black and white, such as [0, 4095]")

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _check_numbers(cls, given: Any) -> tuple[float, ...] | None:
        return normalisation.numbers(given)

    @field_validator("left_out_classes", mode="before")
    @classmethod
    def _sort_classes(cls, given: Any) -> tuple[str, ...] | None:
        if given is None:
            return None
        names = list(given) if isinstance(given, list | tuple) else [given]
        if not all(type(name) in (str, int) for name in names):
            raise ValueError(f"got {given!r}, expected names of classes, such as [Sandal, Bag]")
        # In any order they give the same run; none is unset. Digits are numbers in YAML.
        return tuple(sorted({str(name) for name in names})) or None

    @field_validator("name")
    @classmethod
    def _canonical_name(cls, name: str) -> str:
        return datasets.info(name).name

    @field_validator("domains")
    @classmethod
    def _sort_domains(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        # In any order they give the same run.
        return None if names is None else tuple(sorted(names))

    @model_validator(mode="after")
    def _check_one_size(self) -> DatasetConfig:
        if self.train_size is not None and self.train_fraction is not None:
            raise ValueError("give train_size or train_fraction, not both")
        default = DatasetConfig.model_fields["validation_fraction"].default
        # Stored configurations hold the default, so that is accepted.
        if self.validation_size is not None and self.validation_fraction != default:
            raise ValueError("give validation_size or validation_fraction, not both")
        normalisation.check(self.mean, self.std)
        return self


class ModelConfig(Section):
    """Which network. `width` is for our own models, `small_stem` and `drop_path` for timm's.

    `input_size` is the size to which images are resized on the device, after they are mixed; None
    leaves them as they are. `drop_path` is the rate of stochastic depth at the deepest block.
    `source` identifies the code of a network of the user's own, and is filled in.
    """

    name: str = "small_cnn"
    width: int | None = Field(None, ge=1, le=1024)
    small_stem: bool = False
    input_size: int | None = Field(None, ge=8, le=1024)
    drop_path: Number | None = Field(None, ge=0, lt=1)
    source: str | None = None

    @field_validator("drop_path")
    @classmethod
    def _none_dropped_is_unset(cls, rate: float | None) -> float | None:
        # Unset, so that both ways of writing it give the same run.
        return rate or None

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        models.check_name(name)
        return name

    @model_validator(mode="after")
    def _check_options(self) -> ModelConfig:
        models.check_options(
            self.name, width=self.width, small_stem=self.small_stem, drop_path=self.drop_path
        )
        return self


class TeacherConfig(Section):
    """A second network, trained before, whose answers the run learns from.

    `weights` are as of `transfer`; null, as in a grid, is a run without a teacher. `model` is the
    teacher's network; None: that of its pretraining, or else the run's. `temperature` divides the
    logits of both before they are compared. `weight` is the share of that loss; the rest is the
    loss with labels. The teacher `sees` the same mixed images as the run, or clean ones, and its
    answers are mixed as labels are.
    """

    weights: str | None
    model: ModelConfig | None = None
    temperature: Number = Field(4.0, gt=0, le=100)
    weight: Number = Field(1.0, gt=0, le=1)
    sees: Literal["mixed", "clean"] = "mixed"

    @field_validator("weights")
    @classmethod
    def _resolve_weights(cls, weights: str | None) -> str | None:
        return None if weights is None else resolve_weights(weights)


class OcclusionConfig(Section):
    """Accuracy on partly occluded images; `images` None means the whole test set."""

    shapes: tuple[Literal["centre", "patches"], ...] = ("centre", "patches")
    fractions: tuple[Annotated[Number, Field(gt=0, lt=1)], ...] = (0.1, 0.25, 0.5, 0.75)
    images: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)

    @field_validator("shapes", "fractions")
    @classmethod
    def _check_distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) != len(values):
            raise ValueError("each value once")
        return values

    @field_validator("fractions")
    @classmethod
    def _sort(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(values))


class TaskConfig(Section):
    """What is learned: a folder of `mixbench.experiments.tasks`. None is classification.

    `mixing` is one of the task's ways to mix, where it has several; None: the first, or none.
    """

    name: str
    mixing: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, given: Any) -> Any:
        """Accept `task: segmentation`."""
        return {"name": given} if isinstance(given, str) else given

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        return tasks.info(name).name


class EvaluationConfig(Section):
    """What is measured after training."""

    batch_size: int = Field(500, ge=1)
    ece_bins: int = Field(15, ge=2, le=1000)
    occlusion: OcclusionConfig = OcclusionConfig()


class RunConfig(Section):
    """One run: everything that decides its result, and nothing else.

    `resolve.parse` makes one whose defaults are filled in. `replicate` is set in sweeps with
    `replicates`: `dataset.split_seed` is then that of the sweep plus the replicate, and a cell has
    all replicates. It is no part of the run's key, because it changes nothing else.
    """

    dataset: DatasetConfig
    task: TaskConfig | None = None
    model: ModelConfig = ModelConfig()
    # Validated, so that the default's parameters are filled in too.
    augmentation: dict[str, Any] = Field(
        default_factory=lambda: {"name": "none"}, validate_default=True
    )
    staging: StagingConfig | None = None
    streams: StreamsConfig | None = None
    teacher: TeacherConfig | None = None
    transfer: TransferConfig | None = None
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: int = Field(0, ge=0, lt=2**63)
    replicate: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _check_replicate(self) -> RunConfig:
        if self.replicate is not None and self.dataset.split_seed < self.replicate:
            raise ValueError(
                f"replicate: got {self.replicate}, expected at most dataset.split_seed "
                f"({self.dataset.split_seed}), which holds it"
            )
        folds, first = self.dataset.folds, self.dataset.split_seed - (self.replicate or 0)
        if folds is not None and first % folds:
            raise ValueError(
                f"dataset.split_seed: got {first}, expected a multiple of dataset.folds, {folds}, "
                "so that replicate 0 is the first fold of a repetition"
            )
        return self

    @field_validator("transfer")
    @classmethod
    def _empty_is_unset(cls, transfer: TransferConfig | None) -> TransferConfig | None:
        return None if transfer == TransferConfig() else transfer

    @field_validator("teacher")
    @classmethod
    def _no_teacher_is_unset(cls, teacher: TeacherConfig | None) -> TeacherConfig | None:
        return None if teacher is None or teacher.weights is None else teacher

    @field_validator("augmentation", mode="before")
    @classmethod
    def _resolve_augmentation(cls, section: Any) -> dict[str, Any]:
        return resolve_method(section)

    @property
    def task_info(self) -> TaskInfo:
        """What the run learns, as it is declared; of a resolved configuration."""
        return tasks.info(self.task.name if self.task else tasks.CLASSIFICATION)

    @property
    def phases(self) -> tuple[dict[str, Any], ...] | None:
        """The phases of `staging`; None for a run without staging."""
        return None if self.staging is None else self.staging.phases

    @property
    def unfreezings(self) -> list[Moment]:
        """The moments of `transfer.unfreeze`, as far as they are written out."""
        return [point["at"] for point in self.transfer.points] if self.transfer else []

    @property
    def run_key(self) -> str:
        """Identifies the run: 16 hexadecimal digits, the same on every machine."""
        return keys.run_keys(self.section_texts(), [self.seed])[0]

    @property
    def cell_key(self) -> str:
        """Identifies the run but for seed and replicate, which are paired between cells."""
        split_seed = self.dataset.split_seed - (self.replicate or 0)
        dataset = self.dataset.model_copy(update={"split_seed": split_seed})
        cell = self.model_copy(update={"dataset": dataset, "replicate": None})
        return keys.cell_key(cell.section_texts())

    def section_texts(self) -> dict[str, str]:
        """Return what identifies the run but for its seed, as `keys` takes it."""
        return keys.section_texts(self.model_dump(mode="json", exclude_none=True))


_METHODS = {"streams": "unlabelled.augmentation."}
"""What keys of a section begin with that are parameters of a method."""


def section_keys() -> dict[str, tuple[str, ...]]:
    """Return the keys of each section of a run, dotted for the nested ones."""
    keys_of: dict[str, tuple[str, ...]] = {}
    for name, field in RunConfig.model_fields.items():
        section = section_in(field.annotation)
        keys_of[name] = tuple(_dotted_keys(section)) if section else ()
    return keys_of


def check_key(key: Any, where: str) -> None:
    """Raise UserError, which names `where`, unless a run has this section or dotted key."""
    section, _, rest = str(key).partition(".")
    valid = section_keys()
    if section not in valid:
        raise unknown(f"section in {where}", section, valid)
    inside_method = rest.startswith(_METHODS.get(section, rest + "."))
    if rest and valid[section] and rest not in valid[section] and not inside_method:
        raise unknown(f"key of {section} in {where}", rest, valid[section])


def _dotted_keys(section: type[BaseModel]) -> list[str]:
    dotted = []
    for field_name, field in section.model_fields.items():
        name = field.alias or field_name
        dotted.append(name)
        inner = section_in(field.annotation)
        if inner is not None:
            dotted += [f"{name}.{key}" for key in _dotted_keys(inner)]
    return dotted
