"""Which of many belongs to an image: another image, or a text."""

from mixbench.experiments.design.tasks import TaskInfo, TaskMetric

_INSIDE = "it mixes inside a network, and there are two encoders"
_CLASSES = "it asks for classes of images"

TASK = TaskInfo(
    name="retrieval",
    summary="which image or text belongs to an image",
    targets="pairs",
    metrics=(
        TaskMetric("test/recall_at_1", "Recall@1", True, 1, 0.01),
        TaskMetric("test/recall_at_5", "Recall@5", True, 1, 0.01),
        TaskMetric("test/recall_at_1_to_second", "Recall@1, image to pair", True, 1, 0.01),
        TaskMetric("test/recall_at_5_to_second", "Recall@5, image to pair", True, 1, 0.01),
        TaskMetric("test/recall_at_1_to_first", "Recall@1, pair to image", True, 1, 0.01),
        TaskMetric("test/recall_at_5_to_first", "Recall@5, pair to image", True, 1, 0.01),
        TaskMetric("test/nll", "NLL", False, -1, 0.02),
        TaskMetric("train/recall_at_1", "Train recall@1", True, 0),
    ),
    validation=(("recall_at_1", 1), ("nll", -1)),
    note=(
        "Recall@k: how often what belongs to an image, or to its pair, is among the k most similar "
        "of the split; the mean of both ways where no way is named. It depends on how many there "
        "are to choose from. NLL: of the right one among all of the split. Train recall: among the "
        "training images, clean."
    ),
    losses=("ce",),
    refused_methods={
        "attentive_cutmix": _CLASSES,
        "augmix": "its loss compares probabilities of classes",
        "c_mixup": "it pairs images by numbers to predict",
        "classmix": "it pastes classes of a mask",
        "copy_paste": "it pastes objects of a mask",
        "decoupled_mixup": "its loss asks for classes",
        "manifold_mixup": _INSIDE,
        "mixstyle": _INSIDE,
        "moex": _INSIDE,
        "patchup": _INSIDE,
        "puzzlemix": _CLASSES,
        "recursivemix": "its loss compares probabilities of classes",
        "sk_mixup": "it asks the network for features, and there are two encoders",
        "snapmix": _CLASSES,
        "transmix": "it weighs labels by the attention of a class token",
    },
    outputs=64,
    mixings={
        "both": "one plan for both sides of a pair, with the same weights",
        "images": "images alone; each belongs to the pairs of its sources, by their weights",
        "mixgen": "images are mixed, and the texts of their sources follow one another",
    },
)
