"""Project run folders into MLflow, from one process, as often as you like.

The folders are the truth. Workers never run this. Importing the package imports neither MLflow nor
torch; the functions that need them do.
"""

from __future__ import annotations

from mixbench.experiments.tracking.cells import CellSummary, Statistics
from mixbench.experiments.tracking.dashboard import dashboard
from mixbench.experiments.tracking.follower import follow
from mixbench.experiments.tracking.local_store import ensure_store, resolve
from mixbench.experiments.tracking.outages import StoreRefused, StoreUnavailable
from mixbench.experiments.tracking.projector import Figures, Projector, project
from mixbench.experiments.tracking.summary import Summary
from mixbench.experiments.tracking.verification import Verdict, verify

__all__ = [
    "CellSummary",
    "Figures",
    "Projector",
    "Statistics",
    "StoreRefused",
    "StoreUnavailable",
    "Summary",
    "Verdict",
    "dashboard",
    "ensure_store",
    "follow",
    "project",
    "resolve",
    "verify",
]
