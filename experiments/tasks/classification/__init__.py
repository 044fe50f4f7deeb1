"""One class for an image: the task of a run that names none."""

from mixbench.experiments.design.tasks import TaskInfo, TaskMetric

TASK = TaskInfo(
    name="classification",
    summary="one class for an image",
    targets="labels",
    metrics=(
        TaskMetric("test/accuracy", "Accuracy", True, 1, 0.005),
        TaskMetric("test/ece", "ECE", True, -1, 0.01),
        TaskMetric("test/nll", "NLL", False, -1, 0.02),
        TaskMetric("test/brier", "Brier", False, -1, 0.01),
        TaskMetric("test/balanced_accuracy", "Balanced accuracy", True, 1, 0.005),
        TaskMetric("test/macro_f1", "Macro F1", True, 1, 0.005),
        # Of runs with a teacher alone.
        TaskMetric("test/agreement", "Agreement with teacher", True, 1, 0.005),
    ),
    validation=(("accuracy", 1), ("nll", -1)),
    losses=("ce", "bce"),
    has_label_options=True,
)
