"""From plain data to a `RunConfig` that is checked and has every default filled in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from mixbench.experiments.config import datasets, messages, models, normalisation, rules, weights
from mixbench.experiments.config.domains import check_domains
from mixbench.experiments.config.method_needs import check_method_needs
from mixbench.experiments.config.network import resolved_model
from mixbench.experiments.config.schema import DatasetConfig, RunConfig
from mixbench.experiments.config.sound import check_sound
from mixbench.experiments.config.staging import StagingConfig
from mixbench.experiments.config.tasks import check_task, with_mixing, with_task
from mixbench.experiments.config.teacher import check_teacher, with_teacher
from mixbench.experiments.config.training import CROP_SCALE, SAM_RHO
from mixbench.experiments.config.transfer import TransferConfig
from mixbench.experiments.config.unlabelled import check_streams, with_streams
from mixbench.experiments.errors import UserError
from mixbench.experiments.staging.methods import methods_of
from mixbench.experiments.staging.phases import resolve_phases
from mixbench.experiments.staging.spans import Length
from mixbench.experiments.text import plural

_UNKNOWN_SIZE = 10**9


def parse(raw: Any) -> RunConfig:
    """Return the resolved `RunConfig` of plain data.

    Raises UserError, which names the field, what came and what is allowed.
    """
    if not isinstance(raw, dict):
        raise UserError(f"a run is a mapping of sections, got {raw!r}")
    try:
        return resolve(RunConfig.model_validate(raw))
    except ValidationError as error:
        raise UserError(messages.to_message(error, RunConfig)) from None
    except ValueError as error:
        raise UserError(str(error)) from None


def resolve(config: RunConfig) -> RunConfig:
    """Return `config` with the defaults that depend on the data set, the network or the method.

    Raises ValueError or UserError for sections that don't fit each other.
    """
    facts = datasets.with_folds(config.dataset.name, config.dataset.folds)
    check_domains(config.dataset)
    config = with_task(_with_weights(config), facts)
    config = config.model_copy(update={"training": _training(config, facts)})
    _check_train_size(config, facts)
    _check_class_weights(config)
    config = config.model_copy(
        update={"model": resolved_model(config.model), "dataset": _dataset(config.dataset, facts)}
    )
    config = with_streams(with_teacher(config))
    config = with_mixing(config.model_copy(update={"staging": _staging(config, facts)}))
    rules.check_transfer(config)
    rules.check_validation(config)
    check_task(config)
    check_sound(config, facts)
    check_teacher(config)
    check_streams(config, facts)
    check_method_needs(config, facts)
    check_mixing(config.augmentation, config.phases, config.dataset.image_size, config.model.name)
    return config


def check_mixing(
    augmentation: Mapping[str, Any],
    phases: Sequence[Mapping[str, Any]] | None,
    image_size: int | tuple[int, int] | None,
    model: str,
) -> None:
    """Raise UserError for a method that needs larger images or a deeper network.

    How many layers a network of timm has is known only when it is built.
    """
    layers = models.our_networks()[model].stages if model in models.our_networks() else None
    sides = (image_size,) * 2 if isinstance(image_size, int) else image_size
    for where, mix in methods_of(augmentation, phases):
        if sides is not None:
            try:
                mix.check_size(*sides)
            except ValueError as error:
                raise UserError(f"{where}: {error}") from None
        if layers is not None and mix.deepest > len(layers):
            raise UserError(
                f"{where}: {mix.name} mixes down to layer {mix.deepest}, expected at most "
                f"{len(layers)}, the layers of {model}: {', '.join(layers)}"
            )


def _with_weights(config: RunConfig) -> RunConfig:
    transfer = config.transfer
    resolved, model = weights.for_model(transfer.weights if transfer else None, config.model.name)
    updates: dict[str, Any] = {}
    if transfer is not None:
        updates["transfer"] = transfer.model_copy(
            update={"weights": resolved, **_unused_rates(transfer)}
        )
    if model != config.model.name:
        updates["model"] = config.model.model_copy(update={"name": model})
    return config.model_copy(update=updates)


def _unused_rates(transfer: TransferConfig) -> dict[str, None]:
    """Return the rates of a backbone that is never trained, unset: it is the same run."""
    if transfer.freeze == "all" and transfer.unfreeze is None:
        return {"backbone_rate": None, "layer_decay": None}
    return {}


def _training(config: RunConfig, facts: datasets.DatasetInfo) -> Any:
    training = config.training
    warmup = 0.25 if training.schedule == "one_cycle" else 0.0
    return training.model_copy(
        update={
            **_crops(config, facts),
            "flip": _or(training.flip, facts.flip),
            "warmup": _or(training.warmup, warmup),
            **({"sam_rho": training.sam_rho or SAM_RHO} if training.optimiser == "sam" else {}),
        }
    )


def _crops(config: RunConfig, facts: datasets.DatasetInfo) -> dict[str, Any]:
    """Return `crop`, `crop_scale` and `crop_padding` of a run.

    Data sets with a name have no `crop` unless it is `resized`: their `crop_padding` says it.
    """
    training, is_folder = config.training, datasets.has_files(facts.name)
    crop = training.crop or ("resized" if training.crop_scale else None)
    if crop is None and is_folder:
        # Photographs vary more by their parts than by a few pixels.
        crop = "pad" if training.crop_padding else "resized"
    if crop == "resized":
        return {
            "crop": crop,
            "crop_scale": training.crop_scale or CROP_SCALE,
            "crop_padding": 0,
        }
    padding = _or(training.crop_padding, facts.crop_padding)
    if crop == "none":
        padding = 0
    if crop == "pad" and not padding:
        # An eighth of the side, as 4 of 32 pixels for CIFAR.
        padding = min(64, max(1, min(config.dataset.sides) // 8))
    return {"crop": crop if is_folder else None, "crop_padding": padding}


def _dataset(dataset: DatasetConfig, facts: datasets.DatasetInfo) -> DatasetConfig:
    """Return the data set's section with its size and fit; ValueError for a range without use."""
    is_folder = datasets.has_files(facts.name)
    if dataset.pixel_range is not None and not is_folder:
        raise ValueError(
            f"dataset.pixel_range: is for image files; the pixels of {facts.name} are whole "
            "numbers from 0 to 255"
        )
    if dataset.left_out_classes and is_folder:
        raise ValueError(
            "dataset.left_out_classes: is for data sets with a name; leave the folders or rows of "
            "these classes out instead, and name a folder with them in shift.near"
        )
    if dataset.left_out_classes and datasets.is_own(facts.name):
        raise ValueError(
            f"dataset.left_out_classes: is for data sets with a name; let {facts.name} leave them "
            "out"
        )
    if dataset.left_out_classes and dataset.classes < 2:
        raise ValueError(
            f"dataset.left_out_classes: got {len(dataset.left_out_classes)} of the "
            f"{facts.classes} classes of {facts.name}, expected at most {facts.classes - 2}"
        )
    height, width = dataset.sides
    # The images of data sets with a name are squares; the user's own have a path in theirs.
    has_pictures = ":" in facts.name
    fit = (dataset.fit or "crop") if has_pictures or height != width else None
    return dataset.model_copy(
        update={
            "image_size": _or(dataset.image_size, facts.size),
            "fit": fit,
            "mean": normalisation.for_channels(dataset.mean, facts.channels, "dataset.mean"),
            "source": datasets.current_source(dataset.name, dataset.source),
            "std": normalisation.for_channels(dataset.std, facts.channels, "dataset.std"),
        }
    )


def _check_train_size(config: RunConfig, facts: datasets.DatasetInfo) -> None:
    size = config.dataset.train_size
    is_folder = datasets.has_files(facts.name)
    if size is not None and not is_folder and size > (facts.train or size):
        raise ValueError(
            f"dataset.train_size: got {size}, expected at most {facts.train}, the training "
            f"images of {facts.name}"
        )
    validation = config.dataset.validation_size
    if validation is not None and facts.train is not None and validation >= facts.train:
        raise ValueError(
            f"dataset.validation_size: got {validation}, expected less than {facts.train}, the "
            f"training images of {facts.name}"
        )


def _check_class_weights(config: RunConfig) -> None:
    weights, classes = config.training.class_weights, config.dataset.classes
    if isinstance(weights, tuple) and len(weights) != classes:
        raise ValueError(
            f"training.class_weights: got {plural(len(weights), 'number')}, expected {classes}, "
            f"one for each class of {config.dataset.name}"
        )


def _staging(config: RunConfig, facts: datasets.DatasetInfo) -> StagingConfig | None:
    """Return the resolved phases."""
    if config.staging is None:
        return None
    dataset, training, transfer = config.dataset, config.training, config.transfer
    most = facts.train or _UNKNOWN_SIZE
    size = dataset.train_size or (dataset.train_fraction or 1.0) * most
    share = facts.validation_share(dataset.validation_fraction, dataset.validation_size)
    trained = min(size, most - (dataset.validation_size or 0)) * (1 - share)
    # When the layers of a gradual unfreezing come is known only when the network is built.
    is_gradual = transfer is not None and transfer.unfreeze == "gradual"
    length = Length(
        epochs=training.epochs,
        steps_per_epoch=max(1, math.ceil(trained / training.batch_size)),
        unfreezings=None if is_gradual else config.unfreezings,
    )
    staging = config.staging
    dose = staging.dose
    asked = staging.name if dose is None else dose
    resolved = resolve_phases(asked, staging.written, config.augmentation, length)
    if resolved is None:
        return None
    doses: dict[str, Any] = {} if dose is None else {"match_dose": dose.share, "shape": dose.shape}
    return StagingConfig(name=resolved.name, phases=resolved.phases, **doses)


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
