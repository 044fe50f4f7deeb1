"""A class for every pixel."""

from mixbench.experiments.design.tasks import TaskInfo, TaskMetric

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
    losses=("ce",),
    is_dense=True,
)
