"""The schedules that have a name, as phases.

The phases of a name never change: results carry the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMED: dict[str, tuple[dict[str, Any], ...]] = {
    "always": ({},),
    "never": (),
    "first_50": ({"to": 0.5},),
    "first_75": ({"to": 0.75},),
    "first_90": ({"to": 0.9},),
    "last_50": ({"from": 0.5},),
    "last_25": ({"from": 0.75},),
    "alternate": ({"every": 2},),
    "linear_up": ({"prob": {"from": 0.0}},),
    "linear_down": ({"prob": {"to": 0.0}},),
    # Yu et al. 2021, "Mixup Without Hesitation" (arXiv:2101.04342): on, then every second epoch,
    # then less and less often.
    "hesitate": ({"to": 0.6}, {"to": 0.9, "every": 2}, {"prob": {"to": 0.0}}),
    # What practitioners advise for transfer: nothing until the classifier has converged, then
    # seldom and with small boxes, in the last quarter more often.
    "cautious": (
        {"from": "plateau by 0.5", "to": 0.75, "prob": 0.3, "max_area": 0.2},
        {"prob": 0.5, "max_area": 0.2},
    ),
}
"""Linear changes start, or end, at the method's own `prob`."""


def phases_of(name: str, augmentation: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the phases of schedule `name` for a run with this augmentation.

    Parameters that the method does not have are left out, and boxes never become larger than the
    method's own.
    """
    phases = []
    for written in NAMED[name]:
        phase = dict(written)
        if "max_area" in phase:
            area = phase.pop("max_area")
            if "max_area" in augmentation:
                phase["max_area"] = min(area, augmentation["max_area"])
        phases.append(phase)
    return tuple(phases)
