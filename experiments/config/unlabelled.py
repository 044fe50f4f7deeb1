"""The section `streams` in a run: its defaults, and whether it fits the other sections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mixbench import augmentations
from mixbench.experiments.config import datasets
from mixbench.experiments.config.method_needs import pairs_by
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.config.streams import REST, UnlabelledConfig
from mixbench.experiments.config.tasks import with_inner
from mixbench.experiments.design.tasks import CLASSIFICATION, MASKS
from mixbench.experiments.staging.methods import methods_of, resolve_method

if TYPE_CHECKING:
    from mixbench.augmentations import Method

SEGMENTATION = "segmentation"


@dataclass(frozen=True)
class AlgorithmInfo:
    """What an algorithm for unlabelled images sets by default; what is not in it, it has not.

    mixes: the methods that it can have; () for all that a stream can.
    """

    tasks: tuple[str, ...]
    defaults: dict[str, Any]
    augmentation: dict[str, Any]
    mixes: tuple[str, ...] = ()


_NONE: dict[str, Any] = {"name": "none"}
_BOTH = (CLASSIFICATION, SEGMENTATION)
ALGORITHMS = {
    # Sohn et al. 2020: τ = .95, λ_u = 1, the network labels for itself.
    "fixmatch": AlgorithmInfo(
        _BOTH, {"teacher": "network", "weight": 1.0, "ramp_up": 0.0, "threshold": 0.95}, _NONE
    ),
    # Berthelot et al. 2019: T = .5, α = .75, λ_u = 75 for CIFAR-10.
    "mixmatch": AlgorithmInfo(
        (CLASSIFICATION,),
        {"teacher": "network", "weight": 75.0, "ramp_up": 1.0, "temperature": 0.5},
        {"name": "mixup", "alpha": 0.75, "per_sample": True},
        ("mixup",),
    ),
    # Verma et al. 2019: MixUp between unlabelled images, w = 100, a mean teacher.
    "ict": AlgorithmInfo(
        (CLASSIFICATION,),
        {"teacher": "ema", "weight": 100.0, "ramp_up": 0.25},
        {"name": "mixup", "alpha": 1.0},
        ("mixup",),
    ),
    # Tarvainen and Valpola 2017; with mixed masks French et al. 2020.
    "mean_teacher": AlgorithmInfo(
        _BOTH, {"teacher": "ema", "weight": 1.0, "ramp_up": 0.0, "threshold": 0.0}, _NONE
    ),
    # Olsson et al. 2021: τ = .968.
    "pseudo_labels": AlgorithmInfo(
        (SEGMENTATION,),
        {"teacher": "ema", "weight": 1.0, "ramp_up": 0.0, "threshold": 0.968},
        _NONE,
    ),
}
_SETTINGS = ("teacher", "weight", "ramp_up", "threshold", "temperature")


def with_streams(config: RunConfig) -> RunConfig:
    """Return the configuration with what the algorithm sets filled in; unset without streams.

    Raises ValueError for a setting that the algorithm doesn't have.
    """
    stream = config.streams.unlabelled if config.streams else None
    if config.streams is None or stream is None:
        return config.model_copy(update={"streams": None})
    info = ALGORITHMS[str(stream.algorithm)]
    update: dict[str, Any] = {}
    for name in _SETTINGS:
        given = getattr(stream, name)
        if name in info.defaults:
            update[name] = info.defaults[name] if given is None else given
        elif given is not None:
            having = [other for other, one in ALGORITHMS.items() if name in one.defaults]
            raise ValueError(
                f"streams.unlabelled.{name}: got {given}, but {stream.algorithm} has none; it is "
                f"for {', '.join(having)}"
            )
    update["augmentation"] = stream.augmentation or resolve_method(info.augmentation)
    if stream.dataset == config.dataset.name:
        # Its own training images: those that neither train nor validate.
        update["dataset"] = REST
    streams = config.streams.model_copy(update={"unlabelled": stream.model_copy(update=update)})
    return config.model_copy(update={"streams": streams})


def check_streams(config: RunConfig, facts: datasets.DatasetInfo) -> None:
    """Raise ValueError for streams that don't fit the other sections of their run."""
    stream = config.streams.unlabelled if config.streams else None
    if stream is None:
        return
    info, task = ALGORITHMS[str(stream.algorithm)], config.task_info
    where = "streams.unlabelled"
    if task.name not in info.tasks:
        raise ValueError(
            f"{where}.algorithm: {stream.algorithm} is for {' and '.join(info.tasks)}, got a run "
            f"with task {task.name}"
        )
    if stream.teacher == "ema" and config.training.ema is None:
        raise ValueError(
            f"{where}.teacher: got ema, which is the average of training.ema, and there is none; "
            "set a decay, such as training.ema: 0.98"
        )
    if stream.dataset == REST:
        _check_rest(config, stream, facts)
    if round(stream.ratio * config.training.batch_size) < 2 * (config.training.devices or 1):
        raise ValueError(
            f"{where}.ratio: got {stream.ratio:g} for training.batch_size "
            f"{config.training.batch_size}, expected two images or more for each device"
        )
    _check_sections(config, stream)
    mix = augmentations.create(**(stream.augmentation or _NONE))
    reason = _why_not_mixed(mix, config)
    allowed = info.mixes and mix.name not in info.mixes
    if allowed:
        reason = f"{stream.algorithm} mixes with {' or '.join(info.mixes)}"
    if reason is not None:
        raise ValueError(f"{where}.augmentation: got {mix.name}, but {reason}")


def _check_rest(config: RunConfig, stream: UnlabelledConfig, facts: datasets.DatasetInfo) -> None:
    dataset = config.dataset
    if dataset.train_size is None and dataset.train_fraction is None:
        raise ValueError(
            "streams.unlabelled.dataset: got rest, but all training images have labels; set "
            "dataset.train_size, or name another data set"
        )
    rest = facts.train - (dataset.train_size or round(facts.train * (dataset.train_fraction or 1)))
    rest -= dataset.validation_size or 0
    least = max(2, round(stream.ratio * config.training.batch_size))
    if not datasets.has_files(facts.name) and rest < max(least, stream.size or 0):
        raise ValueError(
            f"streams.unlabelled: expected at least {max(least, stream.size or 0)} unlabelled "
            f"images, for one step (ratio {stream.ratio:g} of batch_size "
            f"{config.training.batch_size}) or as size says, got {max(0, rest)}, the training "
            f"images of {facts.name} that are left"
        )


def _check_sections(config: RunConfig, stream: UnlabelledConfig) -> None:
    """Raise ValueError for what can't be trained with unlabelled images beside."""
    transfer, training = config.transfer, config.training
    for section, value in (
        ("teacher", config.teacher),
        ("training.gradient_noise", training.gradient_noise),
        ("dataset.left_out_classes", config.dataset.left_out_classes),
        ("transfer.mixing: features", transfer and transfer.mixing == "features"),
        ("transfer.cache", transfer and transfer.cache),
    ):
        if value:
            raise ValueError(f"{section}: can't be had with streams; leave one of them out")
    for where, mix in methods_of(config.augmentation, config.phases):
        reason = "has a loss of its own" if mix.has_loss else None
        reason = reason or ("mixes inside the network" if mix.deepest else None)
        if stream.algorithm == "mixmatch" and mix.name != "none":
            reason = "would mix twice: mixmatch mixes labelled images too (expected none)"
        if reason is not None:
            raise ValueError(f"{where}: {mix.name} {reason}, beside which no stream can be")


def _why_not_mixed(mix: Method, config: RunConfig) -> str | None:
    """Return why a method can't mix images without labels; None if it can."""
    is_dense = config.task_info.targets == MASKS
    for each in with_inner(mix):
        if each.has_loss:
            return f"{each.name} has a loss of its own"
        if each.deepest:
            return f"{each.name} mixes inside the network"
        if each.name in config.task_info.refused_methods:
            return f"{each.name} can't: {config.task_info.refused_methods[each.name]}"
        if {"labels", "bank", "model"} & set(each.needs):
            return f"{each.name} asks for more than images"
        if "masks" in each.needs and not (is_dense and each.name == "classmix"):
            return f"{each.name} asks for masks, which images without labels don't have"
    if any(pairs_by(mix, pairing) for pairing in ("same_class", "other_class")):
        return "it pairs by labels"
    return None
