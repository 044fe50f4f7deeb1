"""`dataset.mean` and `dataset.std`: checked, part of keys only when set, used by all that reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mixbench.analysis.recommend.settings import settings_of
from mixbench.analysis.recommend.snippets import snippets
from mixbench.experiments.config.resolve import parse
from mixbench.experiments.data.load import load
from mixbench.experiments.errors import UserError


def _run(**dataset: Any) -> Any:
    return parse({"dataset": {"name": "digits", "train_size": 64, **dataset}})


def test_a_number_and_a_list_are_one_run_and_none_is_the_old_one() -> None:
    one, listed = _run(mean=0.25, std="5e-1"), _run(mean=[0.25], std=[0.5])
    assert one.run_key == listed.run_key != _run().run_key
    assert _run(mean=None, std=None).run_key == _run().run_key
    dataset = load(one.dataset)
    assert dataset.mean.tolist() == [0.25] and dataset.std.tolist() == [0.5]
    usual = load(_run().dataset)
    assert usual.digest == dataset.digest
    assert torch.equal(next(usual.train.batches(64))[0], next(dataset.train.batches(64))[0])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mean": 0.5}, "mean: needs std too"),
        ({"mean": 0.5, "std": 0}, "std: got 0, expected more than 0"),
        ({"mean": 123.675, "std": 0.2}, "123.675 of 255 is 0.485"),
        ({"mean": [0.1, 0.2, 0.3], "std": 0.2}, "dataset.mean: got 3 numbers, expected one number"),
        ({"mean": "imagenet", "std": 0.2}, "dataset.mean: got 'imagenet', expected a number"),
        ({"mean": [], "std": []}, r"dataset.mean: got \[\]"),
    ],
)
def test_other_numbers_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        _run(**given)


def test_pasted_lines_have_the_numbers() -> None:
    row = {"augmentation.name": "augmix", "dataset.mean": "[0.25]", "dataset.std": "[0.5]"}
    lines = snippets(settings_of(row))[0].lines
    assert any("normalisation=([0.25], [0.5])" in line for line in lines)
