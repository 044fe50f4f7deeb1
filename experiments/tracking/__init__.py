"""MLflow as a picture of the run folders: made by one process, as often as one likes.

The folders are the truth. Nothing here runs inside a worker, and importing this package imports
neither MLflow nor torch: that is left to the call that needs it.
"""

from __future__ import annotations

from mixbench.experiments.tracking.dashboard import dashboard
from mixbench.experiments.tracking.follow import follow
from mixbench.experiments.tracking.local_store import ensure_store, resolve
from mixbench.experiments.tracking.outages import StoreRefused, StoreUnavailable
from mixbench.experiments.tracking.projection import Figures, Projector, Summary, project
from mixbench.experiments.tracking.verify import Verdict, verify

__all__ = [
    "Figures",
    "Projector",
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
