"""Parameters that are scalars of NumPy or torch are those numbers of Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mixbench import augmentations
from mixbench.experiments.config.resolve import parse

SCALARS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "float32": ("cutmix", {"alpha": np.float32(0.2)}, {"alpha": 0.2}),
    "float16": ("cutmix", {"alpha": np.float16(65504)}, {"alpha": 65504.0}),
    "float64": ("mixup", {"alpha": np.float64(1) / 3}, {"alpha": 1 / 3}),
    "whole numbers": ("cutout", {"size": np.int64(4)}, {"size": 4}),
    "small whole numbers": ("mixup", {"alpha": np.uint8(2)}, {"alpha": 2.0}),
    "truth": ("cutmix", {"per_sample": np.bool_(True)}, {"per_sample": True}),
    "0-d arrays": ("cutmix", {"prob": np.array(0.5)}, {"prob": 0.5}),
    "0-d tensors": ("cutmix", {"alpha": torch.tensor(0.1)}, {"alpha": 0.1}),
    "of a gradient": ("cutmix", {"alpha": torch.tensor(0.1, requires_grad=True)}, {"alpha": 0.1}),
    "tensors of truth": ("cutmix", {"per_sample": torch.tensor(False)}, {"per_sample": False}),
    "lists": ("manifold_mixup", {"depths": np.array([0, 2])}, {"depths": [0, 2]}),
    "items of lists": ("manifold_mixup", {"depths": [np.int32(1)]}, {"depths": [1]}),
    "nested": (
        "compose",
        {"methods": [{"name": "mixup", "alpha": np.float32(0.3)}]},
        {"methods": [{"name": "mixup", "alpha": 0.3}]},
    ),
    "minus zero": ("cutmix", {"prob": -0.0}, {"prob": 0.0}),
}


@pytest.mark.parametrize("case", SCALARS)
def test_methods_keys_and_plans_are_the_same(case: str) -> None:
    name, given, python = SCALARS[case]
    method, expected = augmentations.create(name, **given), augmentations.create(name, **python)
    assert method == expected
    assert repr(method) == repr(expected)
    sections = [{"name": name, **values} for values in (given, python)]
    keys = [
        parse({"dataset": {"name": "fashion_mnist"}, "augmentation": section}).run_key
        for section in sections
    ]
    assert keys[0] == keys[1]
    plans = [
        mix.sample((4, 3, 8, 8), generator=torch.Generator().manual_seed(0))
        for mix in (method, expected)
    ]
    images = torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(*(plan.mix_images(images) for plan in plans), rtol=0, atol=0)


def test_sections_take_them_too() -> None:
    training = {"epochs": np.int64(3), "learning_rate": np.float32(0.2), "amp": np.bool_(False)}
    given = {"dataset": {"name": "digits", "train_size": torch.tensor(100)}, "training": training}
    python = {
        "dataset": {"name": "digits", "train_size": 100},
        "training": {"epochs": 3, "learning_rate": 0.2, "amp": False},
    }
    assert parse({**given, "seed": np.uint8(1)}) == parse({**python, "seed": 1})
    assert parse(given).run_key == parse(python).run_key


@pytest.mark.parametrize("value", [np.float32("nan"), np.array([0.5]), np.str_("x"), np.bool_(1)])
def test_what_is_no_number_is_refused_as_ever(value: Any) -> None:
    with pytest.raises(ValueError, match="expected a number above 0"):
        augmentations.create("cutmix", alpha=value)
