"""The timeline of schedules."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mixbench.analysis.figures.palette import DARK, LIGHT
from mixbench.analysis.figures.timeline import Timeline, changes, phases, timeline_figure

CUTMIX, MIXUP = (213, 94, 0), (0, 114, 178)


def rows(*spans: tuple[int, str, float], **given: Any) -> list[dict[str, Any]]:
    """Rows of phases: how many epochs, the method, its probability."""
    found: list[dict[str, Any]] = []
    for number, (epochs, method, prob) in enumerate(spans, start=1):
        row = {
            "phase": None if method == "none" else number,
            "method": method,
            "prob": prob,
            "alpha": 1.0,
            "min_area": 0.0,
            "max_area": 1.0,
            "until_plateau": False,
        }
        found += [{**row, **given, "epoch": len(found) + 1 + i} for i in range(epochs)]
    return found


def picture(*timelines: Timeline, **more: Any) -> np.ndarray:
    with Image.open(io.BytesIO(timeline_figure(timelines, **more))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def width_of(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    """How many columns have a pixel of this very colour."""
    return int((pixels == colour).all(axis=2).any(axis=0).sum())


def test_stretches_are_phases_and_what_lies_between_them() -> None:
    given = rows((3, "none", 0.0), (2, "cutmix", 1.0), (4, "cutmix", 0.5), (1, "none", 0.0))
    assert phases(given) == [
        (0, 3, "none", False),
        (3, 5, "cutmix", False),
        (5, 9, "cutmix", False),
        (9, 10, "none", False),
    ]


def test_an_epoch_in_which_a_phase_pauses_belongs_to_it() -> None:
    given = rows((4, "cutmix", 1.0))
    given[1] |= {"method": "none", "prob": 0.0}
    given[3] |= {"method": "none", "prob": 0.0}
    assert phases(given) == [(0, 4, "cutmix", False)]


def test_bands_are_as_wide_as_their_phases() -> None:
    half = picture(Timeline("half", rows((15, "cutmix", 1.0), (15, "none", 0.0))))
    whole = picture(Timeline("half", rows((30, "cutmix", 1.0))))
    assert width_of(half, CUTMIX) / width_of(whole, CUTMIX) == pytest.approx(0.5, abs=0.01)
    both = picture(Timeline("half", rows((20, "cutmix", 1.0), (10, "mixup", 0.5))))
    assert width_of(both, CUTMIX) / width_of(both, MIXUP) == pytest.approx(2, abs=0.05)


def test_what_changes_is_drawn_and_what_does_not_is_not() -> None:
    same = Timeline("s", rows((30, "cutmix", 1.0)))
    assert not any(changes(same, key) for key in ("alpha", "min_area", "max_area"))
    other = Timeline(
        "s",
        rows((30, "cutmix", 1.0), max_area=0.2),
        base_parameters={"name": "cutmix", "max_area": 1.0},
    )
    assert changes(other, "max_area") and not changes(other, "alpha")
    # Another method's value is no change of this one's.
    two = rows((15, "cutmix", 1.0), (15, "mixup", 1.0))
    for row in two[15:]:
        row["alpha"] = 0.2
    assert not changes(Timeline("s", two), "alpha")
    assert changes(Timeline("s", [*two[:14], {**two[14], "alpha": 0.5}]), "alpha")


def test_a_plateau_and_an_unfreezing_are_marked() -> None:
    plain = rows((15, "none", 0.0), (15, "cutmix", 1.0))
    waiting = [{**row, "until_plateau": row["epoch"] <= 15} for row in plain]
    drawn = [
        picture(Timeline("a", plain)),
        picture(Timeline("a", waiting)),
        picture(Timeline("a", plain, unfreezings=[10.0])),
    ]
    ink = [int((image.sum(axis=2) < 200).sum()) for image in drawn]
    assert ink[1] > ink[0] and ink[2] > ink[0]


def test_a_row_for_each_schedule_and_nothing_is_cut_off() -> None:
    many = [
        Timeline(f"schedule_{n}", rows((n + 1, "cutmix", 1.0), (29 - n, "none", 0.0)))
        for n in range(12)
    ]
    for paper in (LIGHT, DARK):
        pixels = picture(*many, title="cutmix, 30 epochs", paper=paper)
        ground = tuple(int(paper.paper[i : i + 2], 16) for i in (1, 3, 5))
        for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
            assert (edge == ground).all()
    bands = (picture(*many) == CUTMIX).all(axis=2).any(axis=1)
    assert int((np.diff(bands.astype(int)) == 1).sum()) == 12
