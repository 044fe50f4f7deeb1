"""The sweep that a trial runs, as its YAML has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from mixbench.experiments.advise.budget import HALVING_AT, TrialPlan

MARGIN = 0.01
"""One point of accuracy: what a folder of some hundred images could ever show."""


def spec_of(
    name: str, fixed: Mapping[str, Any], rate: float, plan: TrialPlan, replicates: int
) -> dict[str, Any]:
    """Return the description of the sweep; replicates: of how many there are to be now."""
    training = {**fixed["training"], "epochs": plan.epochs, "learning_rate": rate}
    spec: dict[str, Any] = {
        "name": name,
        "description": f"mixbench try of {fixed['dataset']['name'].partition(':')[2]}",
        "question": {"metric": "test/accuracy", "margin": MARGIN, "contrasts": "baseline"},
        "fixed": {**fixed, "training": training},
        "grid": {"augmentation": [{"name": method} for method in ("none", *plan.methods)]},
        "replicates": replicates,
    }
    over: dict[str, list[float]] = {}
    if plan.tuning_replicates and plan.probs:
        over["augmentation.prob"] = list(plan.probs)
    if plan.tuning_replicates and plan.rates:
        over["training.learning_rate"] = [float(f"{rate * share:.2g}") for share in plan.rates]
    if over:
        spec["tune"] = {
            "over": over,
            "replicates": plan.tuning_replicates,
            "halving": {"at": [HALVING_AT], "keep": 0.5},
            "default": False,
        }
    return spec


def yaml_of(spec: Mapping[str, Any], note: str) -> str:
    """Return the YAML of a sweep, below a comment."""
    lines = "".join(f"# {line}\n" for line in note.splitlines())
    return lines + yaml.safe_dump(dict(spec), sort_keys=False, allow_unicode=True)
