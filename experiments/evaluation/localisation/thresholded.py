"""MaxBoxAccV2 and IoU of masks, with thresholds that are chosen on other images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.evaluation.localisation.box_accuracy import (
    DELTAS,
    THRESHOLDS,
    Overlaps,
    choose,
)


def cross_fitted(overlaps: Overlaps) -> dict[str, float | None]:
    """MaxBoxAccV2 of images without others to choose thresholds on.

    Those of every other image are chosen on the images between, and the other way round: each image
    is measured with thresholds that it had no part in.

    Args:
        overlaps: (N, thresholds) of `box_overlaps`; NaN where a map is not finite.

    Returns:
        As of `accuracies`; None for a single image.
    """
    hits = np.full((len(overlaps), len(DELTAS)), np.nan)
    for half in (0, 1):
        others = overlaps[1 - half :: 2]
        if len(others) and len(overlaps) > 1:
            columns = [THRESHOLDS.index(one) for one in choose(others, None).boxes]
            hits[half::2] = hits_of(overlaps[half::2][:, columns])
    return accuracies(hits)


def hits_of(overlaps: Overlaps) -> NDArray[np.float64]:
    """1 where a box overlaps by δ, 0 where none does, NaN where nothing is known.

    Args:
        overlaps: (N, DELTAS) at the threshold that was chosen for each δ.
    """
    hits = (overlaps >= np.array(DELTAS)).astype(np.float64)
    return np.where(np.isnan(overlaps), np.nan, hits)


def accuracies(hits: NDArray[np.float64]) -> dict[str, float | None]:
    """`max_box_acc_v2` and, by δ in percent, `box_acc/30`, `/50` and `/70`.

    Args:
        hits: (N, DELTAS) of `hits_of`.
    """
    by_delta = {
        f"box_acc/{round(100 * delta)}": mean_of(hits[:, column])
        for column, delta in enumerate(DELTAS)
    }
    return {"max_box_acc_v2": mean_of(hits), **by_delta}


def mean_of(values: NDArray[np.float64]) -> float | None:
    """The mean; None where one of the values is not finite."""
    mean = float(values.mean())
    return None if np.isnan(mean) else mean
