"""Bias and variance of the error over the runs of a cell, from their saved predictions.

What varies is what the runs of the cell differ in: seed, and with replicates the training images
and the validation split. Runs are not trained for this, and no network is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixbench.experiments.errors import Impossible
from mixbench.experiments.evaluation.base import Logits, Measured
from mixbench.experiments.evaluation.bias_variance import BiasVarianceSettings
from mixbench.experiments.evaluation.bias_variance.decompose import PARTS, decompose, pseudo_values


def measure_cell(predictions: Sequence[Logits], _: BiasVarianceSettings) -> list[Measured]:
    """Bias and variance for the 0/1 loss, the NLL and the Brier score, on the test set.

    Metrics, as `decompose` has them: `bias_variance/zero_one/bias`, `/variance` (share of
    predictions that differ from the main one) and `/net_variance` (what variance adds to the
    error); `bias_variance/log/bias` and `/variance`; `bias_variance/brier/bias` and `/variance`.
    The numbers of a run are the jackknife's pseudo-values: their mean over the runs of the cell is
    the estimate, without most of the bias of few runs; those of one run sum up to its own error,
    NLL and Brier score. Curves: the `plain` values of all runs together, the number of `runs`,
    `standard_error` over test images.

    Args:
        predictions: Logits (N,K) and labels (N,) of each finished run of the cell.
        _: Settings; there are none.

    Returns:
        For each run what is stored with it, in the order of `predictions`.

    Raises:
        Impossible: There is one run, or they have other test images, or logits are no numbers.
    """
    if len(predictions) < 2:
        raise Impossible("needs two finished runs that differ in seed or replicate alone")
    labels = predictions[0][1]
    if any(not np.array_equal(labels, others) for _, others in predictions):
        raise Impossible("the runs of a cell have different test images")
    if not all(np.isfinite(logits).all() for logits, _ in predictions):
        raise Impossible("the logits of a run are not finite")
    of_all, without, errors = decompose([logits for logits, _ in predictions], labels)
    curves = {
        "images": len(labels),
        "runs": len(predictions),
        "plain": dict(zip(PARTS, of_all.tolist(), strict=True)),
        "standard_error": dict(zip(PARTS, errors.tolist(), strict=True)),
    }
    names = [f"bias_variance/{part}" for part in PARTS]
    return [
        Measured(dict(zip(names, values.tolist(), strict=True)), curves)
        for values in pseudo_values(of_all, without)
    ]
