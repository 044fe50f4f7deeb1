"""Several labels for an image, each there or not."""

from mixbench.experiments.design.tasks import TaskInfo, TaskMetric

TASK = TaskInfo(
    name="multi_label",
    summary="several labels for an image, each there or not",
    targets="multi_label",
    metrics=(
        TaskMetric("test/map_labels", "mAP over labels", True, 1, 0.005),
        TaskMetric("test/micro_f1", "Micro F1", True, 1, 0.005),
        TaskMetric("test/macro_f1", "Macro F1", True, 1, 0.005),
        TaskMetric("test/subset_accuracy", "All labels right", True, 1, 0.005),
        TaskMetric("test/bce", "Cross-entropy", False, -1, 0.01),
        TaskMetric("train/map_labels", "Train mAP", True, 0),
    ),
    validation=(("map_labels", 1), ("bce", -1)),
    note=(
        "mAP over labels: mean of each label's average precision. F1 and all labels right: at a "
        "probability of 1/2; micro: over all labels of all images, macro: mean over labels. "
        "Cross-entropy: binary, mean over labels; lower is better. Train mAP: clean training "
        "images."
    ),
    losses=("bce",),
    refused_methods={
        "augmix": "its loss compares probabilities of classes that exclude each other",
        "classmix": "it pastes classes of a mask",
        "decoupled_mixup": "its loss lets the classes of an image compete",
        "puzzlemix": "it asks for gradients of a loss of classes that exclude each other",
        "recursivemix": "its loss compares probabilities of classes that exclude each other",
    },
)
