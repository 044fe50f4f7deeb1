"""The points of metrics as the store has them, read for many runs at once."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mixbench.experiments.tracking.records import Point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RUNS_PER_REQUEST, MOST_POINTS = 100, 25_000
"""What MLflow answers at once of one metric of many runs."""

Row = tuple[int, int, str]
"""Step, timestamp and value of a point; the value in words, which NaN too equals itself in."""


class Histories:
    """Reads the points of metrics. is_served: whether the store is behind a server."""

    def __init__(self, client: MlflowClient, is_served: bool) -> None:
        self._client = client
        self._served = is_served
        self._bulk = True

    def of(self, runs: list[Run]) -> dict[str, dict[str, list[Row]]]:
        """run id -> metric -> its points in the store."""
        ids: dict[str, list[str]] = {}
        for run in runs:
            for key in run.data.metrics:
                ids.setdefault(key, []).append(run.info.run_id)
        rows: dict[str, dict[str, list[Row]]] = {}
        for key, run_ids in ids.items():
            for start in range(0, len(run_ids), RUNS_PER_REQUEST):
                for run_id, row in self._history(key, run_ids[start : start + RUNS_PER_REQUEST]):
                    rows.setdefault(run_id, {}).setdefault(key, []).append(row)
        return rows

    def _history(self, key: str, run_ids: list[str]) -> Iterator[tuple[str, Row]]:
        if self._bulk:
            answer = self._asked_at_once(key, run_ids)
            if answer is None:
                self._bulk = False
            elif len(answer) < MOST_POINTS:
                yield from answer
                return
            elif len(run_ids) > 1:
                half = len(run_ids) // 2
                yield from self._history(key, run_ids[:half])
                yield from self._history(key, run_ids[half:])
                return
        for run_id in run_ids:
            for metric in self._client.get_metric_history(run_id, key):
                yield run_id, _stored_row(metric)

    def _asked_at_once(self, key: str, run_ids: list[str]) -> list[tuple[str, Row]] | None:
        """One metric of up to a hundred runs; None where the store cannot be asked so."""
        store: Any = self._client._tracking_client.store
        if not self._served:
            if not hasattr(store, "get_metric_history_bulk"):
                return None
            return [
                (metric.run_id, _stored_row(metric))
                for metric in store.get_metric_history_bulk(run_ids, key, MOST_POINTS)
            ]
        from mlflow.utils.rest_utils import http_request, verify_rest_response

        # The one that MLflow's own page asks: the client's methods go run by run.
        endpoint = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
        asked = {"run_id": run_ids, "metric_key": key, "max_results": MOST_POINTS}
        answer = http_request(store.get_host_creds(), endpoint, "GET", params=asked)
        if answer.status_code == 404:
            return None
        rows = verify_rest_response(answer, endpoint).json()["metrics"]
        return [
            (
                row["run_id"],
                (int(row["step"]), int(row["timestamp"]), value_text(float(row["value"]))),
            )
            for row in rows
        ]


def row(point: Point) -> Row:
    """Return a point of a record as the store has it."""
    return point.step, point.timestamp, value_text(point.value)


def _stored_row(metric: Any) -> Row:
    return metric.step, metric.timestamp, value_text(metric.value)


def value_text(value: float) -> str:
    """Return a value as a database keeps it, in words that are equal where it is NaN too."""
    # Databases have no infinity: MLflow stores the largest number instead.
    if math.isinf(value):
        value = math.copysign(sys.float_info.max, value)
    # Zero has no sign there either.
    return repr(float(value) + 0.0)
