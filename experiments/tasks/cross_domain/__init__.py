"""One class for an image, learned on some domains and tested on another."""

from mixbench.experiments.design.tasks import TaskInfo, TaskMetric

_BY_LABELS = "it looks at labels, by which images are paired within or between domains"
_LOSS = "its loss looks at classes alone"

TASK = TaskInfo(
    name="cross_domain",
    summary="one class for an image of a domain that was not trained on",
    targets="domains",
    metrics=(
        TaskMetric("target/accuracy", "Target accuracy", True, 1, 0.01),
        TaskMetric("target/balanced_accuracy", "Target balanced accuracy", True, 1, 0.01),
        TaskMetric("target/ece", "Target ECE", True, -1, 0.01),
        TaskMetric("target/nll", "Target NLL", False, -1, 0.02),
        TaskMetric("validation/accuracy", "Accuracy on trained domains", True, 0),
    ),
    validation=(("accuracy", 1), ("nll", -1)),
    note=(
        "Target: all images of the domain that was left out, after the last epoch; nothing is "
        "selected on it. Accuracy on trained domains: of their validation images."
    ),
    losses=("ce",),
    label_options=("label_smoothing",),
    refused_methods={
        "augmix": _LOSS,
        "c_mixup": "it pairs images by numbers to predict",
        "classmix": "it pastes classes of a mask",
        "copy_paste": "it pastes objects of a mask",
        "decoupled_mixup": _LOSS,
        "mosaic": "it makes scenes of several objects",
        "puzzlemix": _BY_LABELS,
        "recursivemix": _LOSS,
        "snapmix": _BY_LABELS,
        "transmix": _LOSS,
    },
    mixings={
        "any": "partners are any other images",
        "within": "partners are of the same domain",
        "between": "partners are of another domain",
    },
)
