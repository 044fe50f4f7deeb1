"""Random sequences of growing, working, killing, dropping, reusing, retrying; beside a model."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.experiments.store.growth_machine import GrowingSweep

SEQUENCES = int(os.environ.get("MIXBENCH_SEQUENCES") or 200)
"""How many; a thousand take 20 seconds of a core."""


def test_no_run_is_lost_and_none_is_trained_twice() -> None:
    run_state_machine_as_test(
        GrowingSweep,
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
