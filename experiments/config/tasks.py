"""The task of a run: which it is by its section or its targets, and what fits it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mixbench.experiments.config import datasets, models
from mixbench.experiments.config.method_needs import pairs_by
from mixbench.experiments.config.schema import DatasetConfig, RunConfig, TaskConfig
from mixbench.experiments.design import tasks
from mixbench.experiments.design.tasks import (
    BOXES,
    CLASSIFICATION,
    DOMAINS,
    LABELS,
    MASKS,
    PAIRS,
    TaskInfo,
)
from mixbench.experiments.errors import UserError, unknown
from mixbench.experiments.staging.methods import methods_of

if TYPE_CHECKING:
    from mixbench.augmentations import Method

_ANSWERS = {"classes": "one answer for an image", "map": "a map", "boxes": "boxes"}


def with_task(config: RunConfig, facts: datasets.DatasetInfo) -> RunConfig:
    """Return the configuration with `task` and `dataset.targets`, unset for classification.

    Raises ValueError for targets that the data set doesn't have, or that are not the task's.
    """
    given = config.dataset.targets
    if config.task is not None:
        task = tasks.info(config.task.name)
        where = f"task.name: {task.name} needs dataset.targets: {task.targets}"
        if given not in (None, task.targets):
            raise ValueError(f"{where}, got {given}")
    else:
        task = tasks.for_targets(given or facts.targets[0])
        where = f"dataset.targets: got {given}"
    if task.targets not in facts.targets:
        names = [name for name in datasets.names() if task.targets in datasets.info(name).targets]
        raise ValueError(
            f"{where}, but {facts.name} has {' and '.join(facts.targets)} alone; data sets with "
            f"{task.targets}: {', '.join(names) or 'none yet'}"
        )
    is_default, mixing = task.name == CLASSIFICATION, _given_mixing(config, task)
    dataset = {"targets": None if task.targets == LABELS else task.targets}
    return config.model_copy(
        update={
            "task": None if is_default else TaskConfig(name=task.name, mixing=mixing),
            "dataset": config.dataset.model_copy(update=dataset),
            "training": config.training.model_copy(update={"loss": _loss(config, task)}),
        }
    )


def task_in(cells: Sequence[Mapping[str, Any]]) -> TaskInfo:
    """Return the task of the first of some cells, which may be wrong: classification then."""
    for cell in cells:
        try:
            dataset = DatasetConfig.model_validate(cell.get("dataset"))
            section = cell.get("task")
            task = None if section is None else TaskConfig.model_validate(section)
            given = dataset.targets or datasets.info(dataset.name).targets[0]
            return tasks.info(task.name) if task else tasks.for_targets(given)
        except (UserError, ValueError):
            break
    return tasks.info(CLASSIFICATION)


def check_task(config: RunConfig) -> None:
    """Raise ValueError for sections of the run that don't fit its task."""
    task = config.task_info
    if not task.has_label_options:
        _check_label_options(config, task)
    if task.name != CLASSIFICATION and config.dataset.left_out_classes:
        raise ValueError(
            f"dataset.left_out_classes: is for classification, got a run with task {task.name}"
        )
    if task.targets == PAIRS:
        _check_pairs(config, task)
    if task.targets == DOMAINS:
        _check_partners(config)
    if task.targets in (MASKS, BOXES) and config.training.crop_scale is not None:
        raise ValueError(
            f"training.crop_scale: {task.targets} move with crops by whole pixels (crop_padding) "
            "alone; leave it out"
        )
    if task.answers == "boxes" and config.transfer is not None:
        raise ValueError(
            f"transfer: got a run with task {task.name}, whose networks have no classifier to "
            "replace; leave it out"
        )
    if task.is_dense and config.transfer is not None and config.model.name.startswith("timm/"):
        raise ValueError(
            f"transfer: got a network of timm with the decoder of {task.name}, which has no "
            "weights to begin with and no layers to freeze; leave it out, or take unet"
        )
    if task.answers != "classes" and config.model.input_size is not None:
        raise ValueError(
            f"model.input_size: got {config.model.input_size}, but {task.name} needs answers of "
            "the images' size; set dataset.image_size"
        )
    ours = models.our_networks()
    # timm's networks get a head for classes or a map.
    given = ours[config.model.name].answers if config.model.name in ours else None
    if given != task.answers and (given is not None or task.answers == "boxes"):
        fitting = [name for name, network in ours.items() if network.answers == task.answers]
        answer = _ANSWERS[task.answers]
        raise ValueError(
            f"model.name: {task.name} needs a network that gives {answer}, got {config.model.name};"
            f" those that do: {', '.join(fitting)}"
        )
    for where, mix in methods_of(config.augmentation, config.phases):
        for each in with_inner(mix):
            if each.name in task.refused_methods:
                others = [name for name in _method_names() if name not in task.refused_methods]
                raise ValueError(
                    f"{where}: {each.name} can't carry {task.name}: "
                    f"{task.refused_methods[each.name]}; methods that can: {', '.join(others)}"
                )
        pairing = next((one for one in ("same_class", "other_class") if pairs_by(mix, one)), None)
        if pairing is not None and not task.has_label_options:
            raise ValueError(
                f"{where}: pairing: {pairing} needs one class for an image, got task {task.name}"
            )


def with_mixing(config: RunConfig) -> RunConfig:
    """Return the configuration with `task.mixing`, unset where nothing is mixed.

    Of one whose staging is resolved.
    """
    ways = config.task_info.mixings
    if config.task is None or not ways:
        return config
    is_mixed = any(mix.name != "none" for _, mix in methods_of(config.augmentation, config.phases))
    mixing = (config.task.mixing or next(iter(ways))) if is_mixed else None
    return config.model_copy(update={"task": TaskConfig(name=config.task.name, mixing=mixing)})


def _given_mixing(config: RunConfig, task: TaskInfo) -> str | None:
    mixing = None if config.task is None else config.task.mixing
    if mixing is not None and not task.mixings:
        raise ValueError(
            f"task.mixing: got {mixing}, but {task.name} has no such choice; leave it out"
        )
    if mixing is not None and mixing not in task.mixings:
        raise unknown("task.mixing", mixing, task.mixings)
    return mixing


def _loss(config: RunConfig, task: TaskInfo) -> str | None:
    loss = config.training.loss
    if loss is not None and loss not in task.losses:
        raise ValueError(
            f"training.loss: got {loss}, expected {' or '.join(task.losses)} for {task.name}"
        )
    return None if loss == task.losses[0] else loss


def _check_partners(config: RunConfig) -> None:
    """Raise ValueError for partners of another domain where there is one to train on."""
    mixing = None if config.task is None else config.task.mixing
    domains = config.dataset.domains or ()
    if mixing == "between" and len(domains) < 2:
        raise ValueError(
            f"task.mixing: between needs two domains to train on, got {', '.join(domains)}; "
            "expected any or within"
        )


def _check_pairs(config: RunConfig, task: TaskInfo) -> None:
    """Raise ValueError for what two encoders can't have."""
    second = datasets.info(config.dataset.name).second
    mixing = None if config.task is None else config.task.mixing
    if mixing == "mixgen" and second != "text":
        raise ValueError(
            f"task.mixing: mixgen puts texts one after the other, but {config.dataset.name} pairs "
            f"images with an {second}; expected {' or '.join(set(task.mixings) - {'mixgen'})}"
        )
    for name, value in (("transfer", config.transfer), ("training.swa", config.training.swa)):
        if value is not None:
            raise ValueError(f"{name}: is for one network, and {task.name} trains two encoders")
    if config.training.batch_size < 2:
        raise ValueError(
            f"training.batch_size: got {config.training.batch_size}, expected at least 2: "
            f"{task.name} tells the pairs of a batch apart"
        )


def _check_label_options(config: RunConfig, task: TaskInfo) -> None:
    training = config.training
    for name, off in (
        ("label_smoothing", 0),
        ("class_weights", None),
        ("sampler", None),
        ("bce_threshold", None),
    ):
        value = getattr(training, name)
        if value != off and name not in task.label_options:
            raise ValueError(
                f"training.{name}: got {value}, but it is for one class an image, not for task "
                f"{task.name}; leave it out"
            )


def with_inner(mix: Method) -> Iterator[Method]:
    """A method, and those that it draws from or composes."""
    yield mix
    inner: tuple[Method, ...] = getattr(mix, "methods", ())
    for method in inner:
        yield from with_inner(method)


def _method_names() -> list[str]:
    from mixbench import augmentations

    return list(augmentations.available())
