"""What cells are called that differ in their schedule, or in what they start from."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from mixbench.analysis.tables.labels import cell_labels
from mixbench.analysis.tables.schedules import in_words, planned, span
from tests.support.staged_sweeps import (
    CAUTIOUS,
    CUTMIX,
    FIRST_50,
    HESITATE,
    MIXUP,
    NONE,
    custom,
    run,
    transfer,
)


def labels(*configs: dict[str, Any]) -> list[str]:
    keyed = {f"{number:016x}": schema for number, schema in enumerate(configs)}
    return list(cell_labels(keyed).values())


def test_a_schedule_is_called_by_its_name_and_no_schedule_always() -> None:
    assert labels(
        run(NONE), run(CUTMIX), run(CUTMIX, staging=FIRST_50), run(MIXUP, staging=HESITATE)
    ) == [
        "none",
        "cutmix · staging always",
        "cutmix · staging first_50",
        "mixup · staging hesitate",
    ]


def test_a_schedule_over_all_of_the_training_is_not_called_as_if_it_were_none() -> None:
    third = {"name": None, "phases": [{"from": 0.0, "to": 1.0, "every": 3}]}
    assert labels(run(NONE), run(CUTMIX, staging=third)) == [
        "none",
        "cutmix · staging 0–100\u00a0%: every 3rd epoch",
    ]


def test_without_a_schedule_nothing_is_said_of_staging() -> None:
    assert labels(run(NONE), run(CUTMIX)) == ["none", "cutmix"]


def test_one_schedule_for_all_goes_unsaid() -> None:
    assert labels(run(MIXUP, staging=FIRST_50), run(CUTMIX, staging=FIRST_50)) == [
        "mixup",
        "cutmix",
    ]


def test_phases_without_a_name_are_told_by_when_then_how_then_by_number() -> None:
    first = custom({"from": 0.0, "to": 0.6})
    assert labels(run(CUTMIX), run(CUTMIX, staging=first))[1] == "staging 0–60\u00a0%"
    mild, strong = (custom({"from": 0.0, "to": 0.6, "prob": p}) for p in (0.2, 0.7))
    assert labels(run(CUTMIX, staging=mild), run(CUTMIX, staging=strong)) == [
        "staging 0–60\u00a0%: prob 0.2",
        "staging 0–60\u00a0%: prob 0.7",
    ]
    many = [
        custom(*({"from": i / 10, "to": i / 10 + 0.05, "prob": p} for i in range(8)))
        for p in (0.1, 0.2)
    ]
    assert labels(*(run(CUTMIX, staging=one) for one in many)) == [
        "staging custom 1",
        "staging custom 2",
    ]


def test_what_a_run_starts_from_is_said_in_words() -> None:
    origin = run(NONE, dataset__name="digits")
    key = f"{0:016x}"
    found = labels(
        origin,
        run(CUTMIX),
        run(CUTMIX, weights=transfer(weights=f"cell:{key}")),
        run(CUTMIX, weights=transfer(weights=f"cell:{key}", freeze="all")),
        run(CUTMIX, weights=transfer(weights="efficientnet_lite0", freeze=2)),
        run(CUTMIX, weights=transfer(weights="file:/data/deep/weights.safetensors")),
        run(CUTMIX, weights=transfer(weights="run:other/0123456789abcdef")),
    )
    assert found[1:] == [
        "cutmix · fashion_mnist · from scratch",
        "cutmix · fashion_mnist · pretrained on digits",
        "cutmix · fashion_mnist · pretrained on digits · freeze all",
        "cutmix · fashion_mnist · pretrained: efficientnet_lite0 · freeze to layer 2",
        "cutmix · fashion_mnist · pretrained: weights.safetensors",
        "cutmix · fashion_mnist · pretrained in other",
    ]


def test_who_teaches_is_said_in_words() -> None:
    teacher = {"weights": f"cell:{0:016x}", "temperature": 4.0, "sees": "mixed", "model": None}
    taught = [{**run(CUTMIX), "teacher": given} for given in (None, teacher)]
    clean = {**run(CUTMIX), "teacher": {**teacher, "sees": "clean"}}
    found = labels(run(NONE, dataset__name="digits"), *taught, clean)
    assert found[1:] == [
        "cutmix · fashion_mnist · no teacher",
        "cutmix · fashion_mnist · teacher trained on digits · sees mixed",
        "cutmix · fashion_mnist · teacher trained on digits · sees clean",
    ]


def test_no_label_has_json_or_a_key() -> None:
    gradual = [{"at": 0.5, "down_to": 3}, {"at": "plateau 3", "down_to": "all"}]
    schedules = [
        None,
        FIRST_50,
        CAUTIOUS,
        *(custom({"from": "unfreeze 1", "to": f"epoch {n}"}) for n in (9, 10)),
    ]
    weights = [
        None,
        *(
            transfer(weights="cell:0123456789abcdef", unfreeze=one, mixing=place)
            for one in (None, gradual)
            for place in (None, "features")
        ),
    ]
    found = labels(*(run(CUTMIX, staging=s, weights=w) for s in schedules for w in weights))
    assert len(set(found)) == 25
    assert not [text for text in found if re.search(r"[\[\]{}\"']|[0-9a-f]{8}|None|default", text)]
    assert any("unfreeze at 50 % to layer 3, at plateau to all" in text for text in found)


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ({"from": 0.25, "to": 1.0}, "25–100\u00a0%"),
        ({"from": "plateau 3 by 0.5", "to": 0.75}, "plateau (by 50 %) to 75 %"),
        ({"from": 0.0, "to": "epoch 9"}, "to epoch 9"),
        ({"from": "unfreeze 2", "to": 1.0}, "from unfreezing 2"),
    ],
)
def test_spans(phase: dict[str, Any], words: str) -> None:
    assert span(phase) == words


def test_all_of_a_schedule_in_words() -> None:
    assert in_words(HESITATE["phases"]) == (
        "0–60\u00a0%; 60–90\u00a0%: every 2nd epoch; 90–100\u00a0%: prob 1 → 0"
    )
    other = [{"from": 0.0, "to": 1.0, "method": {"name": "mixup"}, "max_area": 0.3}]
    assert in_words(other, "cutmix") == "0–100\u00a0%: mixup, box to 0.3"


def test_the_plan_of_named_schedules() -> None:
    plan = planned(HESITATE["phases"], 0.8, 10)
    assert plan is not None
    assert plan == pytest.approx([0.8] * 7 + [0.0, 0.8, 0.5])
    assert planned(FIRST_50["phases"], 1.0, 3) == pytest.approx([1.0, 0.5, 0.0])
    assert planned(CAUTIOUS["phases"], 1.0, 10) is None
    cosine = [{"from": 0.0, "to": "epoch 4", "prob": {"from": 0.0, "to": 1.0, "shape": "cosine"}}]
    found = planned(cosine, 1.0, 5)
    assert found is not None and found[4] == 0
    assert found[:4] == pytest.approx([1 - b for b in reversed(found[:4])])
    assert found[0] < 0.125 < found[1]  # slower at first than a line


def test_the_plan_is_that_of_the_training() -> None:
    """The two readings of a schedule, this one and the one that trains, agree."""
    from mixbench.experiments.config import resolve
    from mixbench.experiments.manage.timeline import timeline

    for name in (
        "first_50",
        "first_75",
        "last_25",
        "alternate",
        "linear_up",
        "linear_down",
        "hesitate",
    ):
        raw = {
            "dataset": {"name": "digits"},
            "augmentation": {"name": "cutmix", "prob": 0.7},
            "staging": name,
            "training": {"epochs": 20},
        }
        made = resolve.parse(raw)
        phases = json.loads(made.model_dump_json())["staging"]["phases"]
        rows = [row["prob"] for row in timeline(made)]
        assert planned(phases, 0.7, 20) == pytest.approx(rows, abs=0.01), name
