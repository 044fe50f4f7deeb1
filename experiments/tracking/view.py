"""The prepared view of a sweep: which columns and charts MLflow's page opens with.

MLflow's page keeps a shared view in a tag of the experiment, and opens it by the tag's name in its
address. That is no documented interface: a version without it ignores both, and opens as usual.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mixbench.experiments.design import stream_names, tasks
from mixbench.experiments.tracking.hashing import short_hash
from mixbench.experiments.tracking.parameters import CELL_NAME, ORDER, Plan, valid_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEYS = {"runs": "mixbench", "cells": "mixbench-means"}
"""View -> its key in the address. "cells": charts of the means, MLflow's own averages of groups."""
PREFIX, WRITTEN = "mlflow.sharedViewState.", "mixbench.views"
TRIED = (3, 17)
"""The MLflow that this was tried with in a browser."""
LONGEST_TAG = 5000
MOST_COLUMNS = 12
MOST_EXPANDED = 100
"""MLflow's page loads so many runs at first."""
ACCURACY, ECE, NLL = "test/accuracy", "test/ece", "test/nll"
_METHOD = "augmentation.name"
_WIDE, _NARROW = 200, 130
_BARS = 4
"""Charts of bars beside that of the metric: ECE, NLL and one shape of occlusion by both fills."""


def write_views(
    client: MlflowClient, experiment_id: str, tags: dict[str, str], plan: Plan, metric: str
) -> None:
    """Write the views of the sweep; what a user made of one stays until the plan changes.

    tags: of the experiment; they are updated.
    """
    views = {PREFIX + key: view(plan, metric, grouped=key != "mixbench") for key in KEYS.values()}
    digest = short_hash(views)
    if tags.get(WRITTEN) == digest and views.keys() <= tags.keys():
        return
    for key, value in {**views, WRITTEN: digest}.items():
        client.set_experiment_tag(experiment_id, key, value)
        tags[key] = value


def metric_of(spec: Mapping[str, Any], plan: Plan) -> str:
    """Return the metric that a sweep compares: its task's own unless its question names another."""
    question = spec.get("question")
    named = question.get("metric") if isinstance(question, Mapping) else None
    return valid_name(str(named)) if named else _task(plan).headline.key


def _task(plan: Plan) -> tasks.TaskInfo:
    return tasks.of_config(plan.runs[0].config if plan.runs else {})


def _others(task: tasks.TaskInfo) -> list[str]:
    """Return the metrics that stand beside the one that is compared, the task's own first."""
    if task.name == tasks.CLASSIFICATION:
        return [ACCURACY, ECE, NLL]
    return [one.key for one in task.metrics if one.key.startswith(tasks.OF_TEST)][:3]


def page(experiment_id: str, key: str, mode: str) -> str:
    """Return the part of an address that opens a view. mode: "TABLE" or "CHART"."""
    return (
        f"#/experiments/{experiment_id}/runs?viewStateShareKey={key}&compareRunsMode={mode}"
        "&workflowType=machine_learning"
    )


def limits(version: str) -> list[str]:
    """Say in lines what MLflow's page can't do. version: of the MLflow that serves it."""
    lines = [
        "  MLflow's bars have no intervals and no dots on them: half-widths are a column, runs the "
        "chart of dots beside"
    ]
    number = re.match(r"(\d+)\.(\d+)", version)
    if number is None or (int(number[1]), int(number[2])) < TRIED:
        lines.append(
            f"  the view was made for MLflow {TRIED[0]}.{TRIED[1]}, this is "
            f"{version or 'of an unknown version'}: if the page opens without its charts and "
            "columns, it can't show prepared views"
        )
    return lines


def view(plan: Plan, metric: str = ACCURACY, *, grouped: bool) -> str:
    """Return the tag of a view. metric: the one that the sweep compares."""
    expanded = len(plan.cells) if len(plan.runs) <= MOST_EXPANDED else 0
    while True:
        state = _state(plan, metric, grouped, expanded)
        text = _packed(state)
        if len(text) <= LONGEST_TAG or not expanded:
            return text
        expanded //= 2


def _packed(state: Mapping[str, Any]) -> str:
    text = json.dumps(state, separators=(",", ":"))
    return "deflate;" + base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _state(plan: Plan, metric: str, grouped: bool, expanded: int) -> dict[str, Any]:
    task = _task(plan)
    metrics = list(dict.fromkeys([metric, *_others(task)]))
    # Hidden by the mean colour, and by noise, which no method trains on.
    occlusion = [
        f"occlusion/{part}/area"
        for shape in plan.occlusion_shapes
        for part in (shape, f"{shape}/noise")
    ]
    columns = ["tags.`verdict`"]
    columns += [_metric(metrics[0]), _metric(f"half_width/{metrics[0]}"), _metric("n")]
    columns += [_metric(key) for key in [*metrics[1:], *occlusion]]
    columns += [f"params.`{key}`" for key in plan.varying]
    columns = columns[: MOST_COLUMNS + 4]
    names = [plan.cell_name(key) for key in plan.cells]
    return {
        "orderByKey": f"tags.`{ORDER}`",
        "orderByAsc": True,
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {
            key: _WIDE if "half_width" in key or "verdict" in key else _NARROW for key in columns
        },
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": CELL_NAME}],
        },
        "groupsExpanded": {f"tag.{CELL_NAME}.{name}": True for name in names[:expanded]},
        "useGroupedValuesInCharts": grouped,
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
        "compareRunSections": [
            {"uuid": "methods", "name": "By method", "display": True, "isReordered": True}
        ],
        "compareRunCharts": _charts(metrics, occlusion, _method(plan), grouped, task),
    }


def _method(plan: Plan) -> str:
    """Return the parameter that has the method, or the unlabelled images' where that varies."""
    mixing = [key for key in (_METHOD, stream_names.MIXING) if key in plan.varying]
    return mixing[0] if mixing else _METHOD


def _charts(
    metrics: Sequence[str],
    occlusion: Sequence[str],
    method: str,
    grouped: bool,
    task: tasks.TaskInfo,
) -> list[Any]:
    """Return the charts: means as bars, runs as dots, two curves, one measure against another.

    Only a cell's run has "mean/...", and only runs have the metric itself, so that no chart shows
    both.
    """
    metric = metrics[0]
    if task.name == tasks.CLASSIFICATION:
        other = ECE if metric != ECE else ACCURACY
        watched = ["accuracy", "nll"]
    else:
        other = next((one for one in metrics[1:]), metric)
        watched = [name for name, _ in task.validation[:2]]
    charts = [_bar(metric if grouped else f"mean/{metric}")]
    if not grouped:
        charts.append(_scatter((method, "PARAM"), (metric, "METRIC")))
    charts += [
        _scatter((metric, "METRIC"), (other, "METRIC")),
        *(_line(f"validation/{name}") for name in watched),
        *(_bar(key if grouped else f"mean/{key}") for key in [*metrics[1:], *occlusion][:_BARS]),
    ]
    return [
        {
            "uuid": f"mixbench{number}",
            "metricSectionId": "methods",
            "deleted": False,
            "isGenerated": False,
            "runsCountToCompare": 500,
            **chart,
        }
        for number, chart in enumerate(charts)
    ]


def _bar(metric: str) -> dict[str, Any]:
    return {"type": "BAR", "metricKey": metric}


def _scatter(x: tuple[str, str], y: tuple[str, str]) -> dict[str, Any]:
    (x_key, x_type), (y_key, y_type) = x, y
    return {
        "type": "SCATTER",
        "xaxis": {"key": x_key, "type": x_type},
        "yaxis": {"key": y_key, "type": y_type},
    }


def _line(metric: str) -> dict[str, Any]:
    return {
        "type": "LINE",
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "lineSmoothness": 0,
        "displayPoints": False,
        "scaleType": "linear",
        "xAxisScaleType": "linear",
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
        "range": {},
    }


def _metric(key: str) -> str:
    return f"metrics.`{key}`"
