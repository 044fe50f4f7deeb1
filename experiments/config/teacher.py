"""The section `teacher` in a run: its defaults, and whether it fits the other sections.

Nothing here imports torch; `mixbench.experiments.training.distillation` asks the teacher.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mixbench.experiments.config import weights
from mixbench.experiments.config.network import resolved_model
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.config.transfer import TransferConfig
from mixbench.experiments.design.tasks import CLASSIFICATION
from mixbench.experiments.errors import UserError
from mixbench.experiments.staging.methods import methods_of
from mixbench.experiments.store.dependencies import CELL


def with_teacher(config: RunConfig) -> RunConfig:
    """Return the configuration with the teacher's weights and network resolved."""
    teacher = config.teacher
    if teacher is None:
        return config
    own = teacher.model or config.model
    with errors_of_teacher():
        resolved, name = weights.for_model(teacher.weights, own.name)
    network = resolved_model(own.model_copy(update={"name": name}))
    # Unset where it is the run's, so that both ways of writing it give the same run.
    update = {"weights": resolved, "model": None if network == config.model else network}
    return config.model_copy(update={"teacher": teacher.model_copy(update=update)})


def teacher_run(config: RunConfig) -> RunConfig | None:
    """Return the run as if it had the teacher's network and began with its weights.

    None without a teacher.
    """
    teacher = config.teacher
    if teacher is None:
        return None
    start = TransferConfig(weights=teacher.weights, head="keep")
    network = teacher.model or config.model
    return config.model_copy(update={"teacher": None, "model": network, "transfer": start})


@contextmanager
def errors_of_teacher() -> Iterator[None]:
    """Say in errors about weights that they are the teacher's."""
    try:
        yield
    except UserError as error:
        text = str(error).replace("transfer.head: keep needs", "teacher.weights: it needs")
        text = text.replace("transfer.weights", "teacher.weights")
        text = text.replace("model.width is", "teacher.model.width is")
        raise UserError(text) from None


def check_teacher(config: RunConfig) -> None:
    """Raise ValueError for a teacher that doesn't fit the other sections of its run."""
    teacher, transfer = config.teacher, config.transfer
    if teacher is None:
        return
    if config.task_info.name != CLASSIFICATION:
        raise ValueError(
            f"teacher: is for classification, got a run with task {config.task_info.name}"
        )
    _check_label_loss(config)
    start = transfer.weights if transfer else None
    is_other = start is not None and start != teacher.weights
    if is_other and all(str(one).startswith(CELL) for one in (start, teacher.weights)):
        raise ValueError(
            "teacher.weights: a run can wait for one pretraining alone, and transfer.weights names "
            "another; give run:SWEEP/KEY for one of the two"
        )
    if transfer is not None and transfer.mixing == "features":
        raise ValueError(
            "transfer.mixing: got features, but a teacher sees images; leave it out (pixels)"
        )
    for where, mix in methods_of(config.augmentation, config.phases):
        if mix.has_loss:
            raise ValueError(f"{where}: {mix.name} has a loss of its own, which has no teacher")
        if mix.deepest:
            raise ValueError(
                f"{where}: {mix.name} mixes inside the network, where no teacher sees it"
            )


def _check_label_loss(config: RunConfig) -> None:
    """Raise ValueError for options of a loss that counts for nothing."""
    if config.teacher is None or config.teacher.weight < 1:
        return
    training = config.training
    for name, off in (
        ("label_smoothing", 0),
        ("class_weights", None),
        ("loss", None),
        ("bce_threshold", None),
    ):
        value = getattr(training, name)
        if value != off:
            raise ValueError(
                f"training.{name}: got {value}, but with teacher.weight: 1 no label is learned "
                "from; give a teacher.weight below 1, or leave it out"
            )
