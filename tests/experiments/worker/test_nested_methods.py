"""Methods made of methods in runs: their keys, and their place in a sweep."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mixbench.augmentations.methods.cutmix import CutMix
from mixbench.experiments.config import resolve, schema
from mixbench.experiments.errors import UserError
from mixbench.experiments.sweep import expand

CHOICE: dict[str, Any] = {"name": "choice", "methods": [{"name": "mixup", "alpha": 0.8}, "cutmix"]}


def parsed(augmentation: Any) -> schema.RunConfig:
    return resolve.parse({"dataset": {"name": "digits"}, "augmentation": augmentation})


def test_written_out_it_is_the_same_run() -> None:
    short = parsed(CHOICE)
    long = resolve.parse(json.loads(json.dumps(short.model_dump(mode="json"))))
    assert long == short
    assert long.run_key == short.run_key == parsed("choice").run_key
    assert parsed({**CHOICE, "weights": [1, 1]}).run_key == short.run_key
    assert parsed({**CHOICE, "pairing": "roll"}).augmentation["methods"][1]["pairing"] == "roll"


def test_what_changes_the_run_changes_its_key() -> None:
    others = [
        CHOICE,
        {**CHOICE, "methods": CHOICE["methods"][::-1]},
        {**CHOICE, "methods": [{"name": "mixup", "alpha": 0.7}, "cutmix"]},
        {**CHOICE, "methods": [{"name": "mixup", "alpha": 0.8, "prob": 0.5}, "cutmix"]},
        {**CHOICE, "methods": ["mixup", "cutmix", "cutmix"]},
        {**CHOICE, "weights": [1, 2]},
        {**CHOICE, "per_sample": True},
        {**CHOICE, "name": "compose"},
        {"name": "manifold_mixup"},
        {"name": "manifold_mixup", "depths": [0, 1]},
    ]
    keys = {parsed(other).run_key for other in others}
    assert len(keys) == len(others)
    assert len({parsed(other).cell_key for other in others}) == len(others)


def test_a_parameter_that_came_later_is_not_in_the_key_of_a_method_in_a_method() -> None:
    """Cutout had no placement once: at its default it is no part of what identifies a run."""
    from mixbench.augmentations.registry import identifying

    section = parsed({"name": "compose", "methods": ["cutout"]}).augmentation
    assert section["methods"][0]["placement"] == "clipped"
    assert "placement" not in identifying(section)["methods"][0]
    section = parsed(
        {"name": "compose", "methods": [{"name": "choice", "methods": ["cutout"]}]}
    ).augmentation
    assert "placement" not in identifying(section)["methods"][0]["methods"][0]
    square = {"name": "cutout", "placement": "inside", "size": 4}
    section = parsed({"name": "compose", "methods": [square]}).augmentation
    assert identifying(section)["methods"][0]["placement"] == "inside"


def test_a_method_that_draws_otherwise_now_is_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    nested = {"name": "compose", "methods": [{"name": "choice", "methods": ["cutmix"]}]}
    sections = ["cutmix", nested, "mixup"]
    before = [parsed(section).run_key for section in sections]
    monkeypatch.setattr(CutMix, "revision", 2)
    after = [parsed(section).run_key for section in sections]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, False, True]
    # It is no parameter: a configuration neither takes nor shows it.
    assert "revision" not in parsed("cutmix").augmentation
    assert parsed("cutmix").augmentation["name"] == "cutmix"


def test_in_a_sweep_they_are_grid_values_and_overridden() -> None:
    spec = {
        "name": "nested",
        "fixed": {"dataset": {"name": "digits"}},
        "grid": {
            "augmentation": [CHOICE, {"name": "compose", "methods": ["cutmix", "cutout"]}],
            "augmentation.per_sample": [False, True],
        },
    }
    made = expand.expand(spec)
    assert made.cells == 4
    drawn = [[m["per_sample"] for m in run.augmentation["methods"]] for run in made.runs]
    assert drawn == [[False, False], [True, True], [False, True], [True, True]]
    assert [run.run_key for run in made.runs] == [key for key, _ in made.keys]
    over = expand.expand(spec, {"augmentation.methods": ["fmix"]})
    assert {run.augmentation["methods"][0]["name"] for run in over.runs} == {"fmix"}


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        ({"name": "choice", "methods": ["cutmx"]}, "method 1: unknown augmentation 'cutmx'"),
        ({"name": "choice", "methods": {"a": 1}}, "choice.methods: got {'a': 1}, expected a list"),
        ({"name": "compose", "methods": ["none", None]}, "compose.methods: method 2: got None"),
        ({"name": "manifold_mixup", "depths": 1}, "manifold_mixup.depths: got 1, expected a list"),
    ],
)
def test_errors_are_one_line(augmentation: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parsed(augmentation)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
