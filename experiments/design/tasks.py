"""The tasks of a run, by name: what each one's targets are and which metric leads, without torch.

Each is a folder of `mixbench.experiments.tasks`, whose `__init__.py` has its TASK.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from mixbench.experiments.errors import unknown

TASKS = "mixbench.experiments.tasks"
CLASSIFICATION = "classification"
LABELS = "labels"
MASKS = "masks"
BOXES = "boxes"
PAIRS = "pairs"
DOMAINS = "domains"
TARGETS = {
    LABELS: "labels",
    "multi_label": "several labels for an image",
    "regression": "numbers to predict",
    MASKS: "masks of classes",
    BOXES: "boxes around objects",
    PAIRS: "pairs of images, or of images and texts",
    DOMAINS: "classes, and the domain of each image",
}
"""The values of `dataset.targets`, in words."""
OF_TEST = ("test/", "target/")
"""How names of metrics of test images begin; a target is the domain that was not trained on."""


@dataclass(frozen=True)
class TaskMetric:
    """A metric of the test set, as tables show it.

    Attributes:
        key: Its name in `result.json`, such as "test/rmse".
        title: Its name on the pages.
        percent: Whether a value from 0 to 1 is shown as a percentage.
        better: 1 where higher is better, -1 where lower is, 0 where neither is.
        margin: The smallest difference that matters, in the metric's own unit; None where the data
            decide it.
        margin_of_sd: Where they do: which part of the standard deviation of the test targets.
    """

    key: str
    title: str
    percent: bool
    better: int
    margin: float | None = None
    margin_of_sd: float | None = None


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """A task, as a configuration and a report know it.

    Attributes:
        name: In `task: {name: ...}`, and the folder's.
        summary: A line for lists.
        targets: The `dataset.targets` that it needs: a key of `TARGETS`.
        metrics: Those of the test set; the first is the headline metric.
        validation: Names of what is measured on the validation split after each epoch, with 1 where
            higher is better and -1 where lower is; the first tells the best epoch.
        note: What its metrics are, below the report's table.
        losses: Values of `training.loss` that fit; the first is the default.
        has_label_options: Whether `label_smoothing`, `class_weights`, a balanced `sampler`,
            `bce_threshold` and pairing by class make sense.
        label_options: Which of these options of `training` make sense where not all do.
        refused_methods: Method -> why it can't mix these targets.
        answers: What the network answers with: "classes", or numbers, one answer for an image; a
            "map" of the images' size; or "boxes".
        packages: Modules that its metrics need, with what installs them.
        outputs: How many numbers the network answers with; None: as many as there are classes.
        mixings: The values of `task.mixing`, with what each does; the first is the default.
    """

    name: str
    summary: str
    targets: str
    metrics: tuple[TaskMetric, ...]
    validation: tuple[tuple[str, int], ...]
    losses: tuple[str, ...]
    note: str = ""
    has_label_options: bool = False
    label_options: tuple[str, ...] = ()
    refused_methods: Mapping[str, str] = field(default_factory=dict)
    answers: str = "classes"
    packages: Mapping[str, str] = field(default_factory=dict)

    outputs: int | None = None
    mixings: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_dense(self) -> bool:
        """Whether the network answers with a map of the images' size."""
        return self.answers == "map"

    @property
    def headline(self) -> TaskMetric:
        """The metric that a sweep is compared by unless its question names another."""
        return self.metrics[0]


@cache
def _tasks() -> Mapping[str, TaskInfo]:
    folder = importlib.util.find_spec(TASKS)
    locations = folder.submodule_search_locations if folder else None
    packages = [f"{TASKS}.{one.name}" for one in pkgutil.iter_modules(locations) if one.ispkg]
    found = [importlib.import_module(package).TASK for package in packages]
    return {one.name: one for one in sorted(found, key=lambda one: one.name)}


def names() -> tuple[str, ...]:
    """Return the names of all tasks."""
    return tuple(_tasks())


def info(name: str) -> TaskInfo:
    """Return the task of this name; UserError where there is none."""
    if name not in _tasks():
        raise unknown("task", name, names())
    return _tasks()[name]


def for_targets(targets: str) -> TaskInfo:
    """Return the task of a run that names none, by its `dataset.targets`.

    Examples:
        >>> for_targets("labels").name
        'classification'
    """
    return next(one for one in _tasks().values() if one.targets == targets)


def test_metrics() -> dict[str, TaskMetric]:
    """Return the metrics of the test set by their keys, those of classification first."""
    ordered = sorted(_tasks().values(), key=lambda one: one.name != CLASSIFICATION)
    metrics = [metric for one in ordered for metric in one.metrics]
    found: dict[str, TaskMetric] = {}
    for one in metrics:
        if one.key.startswith(OF_TEST):
            found.setdefault(one.key, one)
    return found


def validation_metrics() -> dict[str, int]:
    """Return `validation/...` of every task, with 1 where higher is better and -1 where lower."""
    found = {"validation/nll": -1}
    for one in sorted(_tasks().values(), key=lambda one: one.name != CLASSIFICATION):
        found |= {f"validation/{name}": better for name, better in one.validation}
    return found


def of_config(config: Mapping[str, Any]) -> TaskInfo:
    """Return the task of a stored configuration, nested or with dotted keys.

    Examples:
        >>> of_config({"dataset": {"name": "fashion_mnist"}}).headline.key
        'test/accuracy'
    """
    section = config.get("task")
    given = section.get("name") if isinstance(section, Mapping) else config.get("task.name")
    # Tables have NaN for what is missing; a task of a later version is read as the default.
    is_known = isinstance(given, str) and given in _tasks()
    return _tasks()[given if is_known and isinstance(given, str) else CLASSIFICATION]
