"""Boxes around the objects of an image, with their classes."""

from mixbench.experiments.design.tasks import TaskInfo, TaskMetric

_INSIDE = "it mixes inside a network, where boxes don't follow"
_OF_IMAGES = "it asks for one class of an image"
_LOSS = "its loss compares answers for whole images"

TASK = TaskInfo(
    name="detection",
    summary="boxes around the objects of an image, with their classes",
    targets="boxes",
    metrics=(
        TaskMetric("test/map50", "mAP@50", True, 1, 0.01),
        TaskMetric("test/map", "mAP@50:95", True, 1, 0.01),
        TaskMetric("test/map50_hidden", "mAP@50 of partly hidden objects", True, 1, 0.02),
        TaskMetric("test/recall", "Recall@100", True, 1, 0.01),
    ),
    validation=(("map50", 1), ("map", 1)),
    note=(
        "mAP: mean average precision over classes as in COCO, at an overlap (IoU) of 0.5, and mean"
        " over 0.5 to 0.95. Partly hidden: objects of which others hide a part; the rest doesn't"
        " count. Recall: mean over 0.5 to 0.95, of 100 boxes an image. All: higher is better."
    ),
    losses=("boxes",),
    refused_methods={
        "attentive_cutmix": _OF_IMAGES,
        "augmix": _LOSS,
        "c_mixup": "it pairs images by numbers to predict",
        "classmix": "it pastes classes of a mask; copy_paste pastes objects",
        "decoupled_mixup": _OF_IMAGES,
        "manifold_mixup": _INSIDE,
        "mixstyle": _INSIDE,
        "moex": _INSIDE,
        "patchup": _INSIDE,
        "puzzlemix": _OF_IMAGES,
        "recursivemix": _LOSS,
        "sk_mixup": "it asks for one answer for an image",
        "snapmix": _OF_IMAGES,
        "transmix": "it weighs labels by the attention of a class token",
    },
    answers="boxes",
    packages={"faster_coco_eval": "pip install 'mixbench[detection]' (or faster-coco-eval)"},
)
