"""Write what was measured of a finished run into its folder `evaluations`."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from mixbench.experiments.evaluation import catalogue
from mixbench.experiments.store import evaluations, provenance
from mixbench.experiments.store.files import atomic_write, dump
from mixbench.experiments.store.run_folder import PlannedRun

if TYPE_CHECKING:
    import torch

    from mixbench.experiments.evaluation.base import Measured


def write(
    planned: PlannedRun,
    name: str,
    settings: dict[str, Any],
    measured: Measured,
    device: torch.device,
    started: float,
) -> None:
    """Write a measurement into the run's `evaluations`, its arrays first."""
    content = {
        "settings": settings,
        "changed": catalogue.changed(name, settings),
        "metrics": measured.metrics,
        "curves": measured.curves,
        "seconds": time.time() - started,
        "provenance": provenance.of(device) | {"finished": time.time()},
    }
    folder = planned.folder.path / evaluations.FOLDER
    arrays: dict[str, Any] = dict(measured.arrays)
    if arrays:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        atomic_write(folder / f"{name}.npz", buffer.getvalue())
    atomic_write(folder / f"{name}.json", dump(content))
    evaluations.clear_failure(planned.folder, name)
