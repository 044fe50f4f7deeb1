"""Measure what takes all finished runs of a cell, from their saved predictions."""

from __future__ import annotations

import time
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from mixbench.experiments.errors import Impossible, UserError
from mixbench.experiments.evaluation import catalogue
from mixbench.experiments.store import evaluations
from mixbench.experiments.store.claims import Claim
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker.evaluation_files import write

if TYPE_CHECKING:
    from mixbench.experiments.evaluation.base import Logits


def measure_cell(
    folder: SweepFolder, planned: PlannedRun, name: str, settings: dict[str, Any], claim: Claim
) -> int:
    """Measure the cell of a run, and write what concerns each of its finished runs.

    A run that was finished later is measured later, and then the others anew: all runs of a cell
    are measured over the same runs. Returns how many measurements failed, as of the run given.
    """
    import torch

    cell = [
        run
        for run in folder.plan()
        if (run.cell_key, run.part) == (planned.cell_key, planned.part) and run.folder.result()
    ]
    started = time.time()
    claim.renew({"stage": f"measuring {name}"})
    try:
        with claim.keep_renewing():
            measured = catalogue.implementation(name).measure_cell(
                [_predictions(run) for run in cell], catalogue.parse(name, settings)
            )
        found = dict(zip((run.run_key for run in cell), measured, strict=True))
        # The run that lacked it comes last: a stop in between leaves it lacking, and all of the
        # cell is measured again.
        for run in sorted(cell, key=lambda run: run.run_key == planned.run_key):
            claim.renew(force=True)
            evaluations.folder_of(run.folder).mkdir(exist_ok=True)
            write(run, name, settings, found[run.run_key], torch.device("cpu"), started)
    except Impossible as error:
        evaluations.fail(planned.folder, name, str(error), settings)
    except (UserError, OSError) as error:
        evaluations.fail(planned.folder, name, str(error))
        print(f"{planned.run_key[:8]} {name}: {error}", flush=True)
        return 1
    return 0


def _predictions(run: PlannedRun) -> Logits:
    """Logits and labels of the test set as the run saved them; UserError if there are none."""
    path = run.folder.path / "predictions.npz"
    try:
        with np.load(path) as kept:
            logits, labels = kept["logits"], kept["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise UserError(f"{path}: the run's predictions are missing or damaged") from None
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise UserError(f"{path}: got logits {logits.shape} and labels {labels.shape}")
    return logits, labels
