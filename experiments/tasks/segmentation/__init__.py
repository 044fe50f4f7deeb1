"""A class for every pixel."""

from mixbench.experiments.design.tasks import TaskInfo, TaskMetric

_INSIDE = "it mixes inside a network, whose finer maps pass by"
_OF_IMAGES = "it asks for one class of an image"

TASK = TaskInfo(
    name="segmentation",
    summary="a class for every pixel of an image",
    targets="masks",
    metrics=(
        TaskMetric("test/miou", "mIoU", True, 1, 0.01),
        TaskMetric("test/boundary_iou", "Boundary IoU", True, 1, 0.01),
        TaskMetric("test/miou_small", "mIoU of small objects", True, 1, 0.02),
        TaskMetric("test/pixel_accuracy", "Pixel accuracy", True, 1, 0.005),
        TaskMetric("test/nll", "NLL", False, -1, 0.02),
    ),
    validation=(("miou", 1), ("nll", -1)),
    note=(
        "mIoU: mean over classes of the pixels in common over those of either mask. Boundary IoU: "
        "the same of bands along their edges. Small objects cover less than 5% of an image. NLL: "
        "mean over pixels, lower is better; all others: higher is better."
    ),
    losses=("ce",),
    label_options=("class_weights",),
    refused_methods={
        "attentive_cutmix": _OF_IMAGES,
        "c_mixup": "it pairs images by numbers to predict",
        "decoupled_mixup": _OF_IMAGES,
        "manifold_mixup": _INSIDE,
        "moex": _INSIDE,
        "patchup": _INSIDE,
        "puzzlemix": _OF_IMAGES,
        "recursivemix": "its loss compares answers for whole images",
        "snapmix": _OF_IMAGES,
        "transmix": "it weighs labels by the attention of a class token",
    },
    answers="map",
)
