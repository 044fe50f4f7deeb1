"""Numbers to predict from an image, such as an angle."""

from mixbench.experiments.design.tasks import TaskInfo, TaskMetric

_OF_CLASSES = "it looks at how sure the network is of classes"

TASK = TaskInfo(
    name="regression",
    summary="numbers to predict from an image",
    targets="regression",
    # Their unit is the data's, and so is the margin: a hundredth of the deviation of the targets.
    metrics=(
        TaskMetric("test/rmse", "RMSE", False, -1, margin_of_sd=0.01),
        TaskMetric("test/mae", "MAE", False, -1, margin_of_sd=0.01),
        TaskMetric("test/r2", "R²", False, 1, 0.01),
        TaskMetric("train/rmse", "Train RMSE", False, 0),
    ),
    validation=(("rmse", -1), ("mae", -1)),
    note=(
        "RMSE and MAE: root of the mean squared error, and mean absolute error, in the unit of what"
        " is predicted; lower is better. R²: 1 less the ratio of the squared errors to the spread"
        " of the test targets; higher is better. Train RMSE: clean training images."
    ),
    losses=("mse",),
    refused_methods={
        "augmix": "its loss compares probabilities of classes",
        "classmix": "it pastes classes of a mask",
        "decoupled_mixup": "its loss asks for classes",
        "puzzlemix": _OF_CLASSES,
        "recursivemix": "its loss compares probabilities of classes",
        "snapmix": "it weighs labels by maps of classes, and the weights don't sum to 1",
    },
)
