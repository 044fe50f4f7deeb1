"""Every registered method keeps every promise of `mixbench.augmentations.contract`, and answers
bad input.

A method added to the registry is tested here without a change.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import contract
from mixbench.augmentations.contract import runner
from mixbench.augmentations.sampling import ordered_labels
from tests.support.given import all_needed, beside
from tests.support.oracles import DEVICES, seeded

NAMES = augmentations.available()

HEAVY = {"puzzlemix", "augmix"}
"""They take up to half a minute on all cases; other tests try them on other sizes."""
each_method = pytest.mark.parametrize("name", NAMES)
each_mode = pytest.mark.parametrize("per_sample", [False, True], ids=["batch", "per_sample"])
each_device = pytest.mark.parametrize("device", DEVICES)
# Fixed examples: a failure must not depend on the day.
searched = settings(max_examples=5, deadline=None, derandomize=True, database=None)


def always(name: str, per_sample: bool, **parameters: Any) -> Any:
    """The method, mixing every sample (random erasing's default is one in two)."""
    return augmentations.create(name, **{"prob": 1.0, "per_sample": per_sample, **parameters})


def labels_for(batch: int, classes: int = 10, device: str = "cpu") -> Tensor:
    return (torch.arange(batch, device=device) * 3 + 1) % classes


def test_the_papers_methods_are_registered() -> None:
    expected = {"none", "mixup", "cutmix", "cutout", "random_erasing", "ricap", "fmix"}
    assert expected <= set(NAMES)
    assert list(NAMES) == sorted(NAMES)


# --- the contract -------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def _a_rough_mask() -> Iterator[None]:
    """PuzzleMix stops far from the best mask: no promise is about how good it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered_labels, "STEPS", 10)
        yield


def broken(make: Any, asked: Iterable[contract.Property], device: str = "cpu") -> list[str]:
    """What `mixbench check` says of the promises that are broken."""
    return [
        f"{finding.name}: {finding.reason} (on a {finding.case})"
        for finding in contract.check_method(make, asked, [device])
        if finding.verdict == "broken"
    ]


@each_method
@each_device
def test_every_promise_holds(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the cases of `mixbench check`: every size, batch, dtype, layout, pairing and mode."""
    if name in HEAVY:
        monkeypatch.setattr(runner, "CASES", contract.CASES[:3])
    make = partial(augmentations.create, name)
    assert broken(make, contract.PROPERTIES.values(), device) == []


VARIANTS: dict[str, dict[str, Any]] = {
    "cow erased": {"name": "cowmask", "mode": "erase", "fill": "mean"},
    "cutmix inside": {"name": "cutmix", "placement": "inside", "alpha": 0.3},
    "cutout inside": {"name": "cutout", "placement": "inside", "size": 5, "fill": 0.5},
    "fmix official": {"name": "fmix", "spectrum": "official"},
    "gridmask mean": {"name": "gridmask", "fill": "mean"},
    "mixup faint": {"name": "mixup", "alpha": 0.05},
    "patchup hard": {"name": "patchup", "mode": "hard", "depths": [1]},
    "smooth squares": {"name": "smoothmix", "shape": "square"},
    "uncorrected labels": {"name": "cutmix", "labels": "uncorrected"},
    "saliency labels": {"name": "saliencymix", "labels": "saliency"},
    "choice of kinds": {"name": "choice", "methods": ["ricap", "none", "cutout"]},
    "choice of depths": {"name": "choice", "methods": ["manifold_mixup", "cutmix", "saliencymix"]},
    "two blends and boxes": {"name": "compose", "methods": ["mixup", "cutmix"]},
    "two pictures": {"name": "compose", "methods": ["fmix", "ricap"]},
    "two depths": {
        "name": "compose",
        "methods": ["cutmix", "manifold_mixup", {"name": "moex", "depths": [3]}],
    },
    "nested": {"name": "compose", "methods": [{"name": "choice"}, "cutout"]},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_promises_hold_for_other_parameters(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The large image and how often is for every method's defaults: they are what takes the time.
    monkeypatch.setattr(runner, "CASES", contract.CASES[:-1])
    asked = [one for name, one in contract.PROPERTIES.items() if name != "prob_once"]
    assert broken(partial(augmentations.create, **VARIANTS[variant]), asked) == []


@each_method
@each_device
@searched
@given(
    data=st.data(),
    batch=st.sampled_from([1, 2, 7]),
    channels=st.integers(1, 4),
    size=st.tuples(st.integers(1, 33), st.integers(1, 33))
    | st.sampled_from([(1, 1), (16, 64), (64, 16), (224, 224)]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    channels_last=st.booleans(),
    per_sample=st.booleans(),
    prob=st.sampled_from([0.5, 1.0]),
    pairing=st.sampled_from(["permute", "derange", "roll", "flip"]),
    seed=st.integers(0, 10_000),
)
def test_promises_hold_on_any_batch(
    name: str, device: str, data: st.DataObject, size: tuple[int, int], **described: Any
) -> None:
    if size == (224, 224):
        described["batch"] = min(described["batch"], 2)
    make = partial(augmentations.create, name)
    case = contract.Case(make, size=size, device=device, **described)
    try:
        case.method().check_size(*size)
    except ValueError:
        return  # as a method may; `refusals` and the methods' own tests say when
    for asked in contract.PROPERTIES.values():
        if not asked.once and asked.applies(make()):
            asked(case)


def test_the_cases_cover_what_the_contract_names() -> None:
    cases = [
        contract.Case(partial(augmentations.create, "none"), **case) for case in contract.CASES
    ]
    assert {(1, 1), (16, 64), (224, 224)} <= {case.size for case in cases}
    assert {1, 2, 7} <= {case.batch for case in cases}
    assert {torch.float32, torch.bfloat16, torch.float16} == {case.dtype for case in cases}
    assert {case.channels_last for case in cases} == {True, False}
    assert {case.pairing for case in cases} == {"permute", "derange", "roll", "flip"}
    # What every property meets that asks for one batch in both modes.
    assert [case.per_sample for case in cases[:2]] == [False, True]


@each_method
@each_mode
def test_how_many_labels_a_sample_has(name: str, per_sample: bool) -> None:
    mix = always(name, per_sample)
    images = torch.rand(7, 3, 16, 16, generator=seeded(0))
    targets = mix.sample(images.shape, **all_needed(mix, images)).mix_labels(labels_for(7))
    expected = {"ricap": 4, "mosaic": 4}.get(name, 2)
    if augmentations.create(name).label_rule == "kept":
        expected = 1
    if name not in ("choice", "compose"):
        assert targets.labels.shape[1] == expected


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right"), [("cutmx", "cutmix"), ("MixUp", "mixup"), ("ricapp", "ricap")]
)
def test_an_unknown_method_is_answered_with_the_nearest(wrong: str, right: str) -> None:
    for function in (augmentations.create, augmentations.describe):
        with pytest.raises(ValueError, match=f"did you mean '{right}'") as caught:
            function(wrong)
        assert wrong in str(caught.value)
        assert all(name in str(caught.value) for name in NAMES)
        assert "\n" not in str(caught.value)


def test_a_hopeless_name_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="cutmix") as caught:
        augmentations.create("qqqqqqq")
    assert "did you mean" not in str(caught.value)


@each_method
def test_an_unknown_parameter_is_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(ValueError, match="did you mean 'pairing'") as caught:
        augmentations.create(name, paring="roll")
    message = str(caught.value)
    assert name in message
    assert "prob" in message
    assert "per_sample" in message
    assert "\n" not in message


def test_a_parameter_of_another_method_is_unknown() -> None:
    with pytest.raises(ValueError, match="no parameter 'alhpa'; did you mean 'alpha'"):
        augmentations.create("cutmix", alhpa=1.0)
    with pytest.raises(ValueError, match="mixup has no parameter 'placement'"):
        augmentations.create("mixup", placement="inside")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("mixup", "alpha", 0),
        ("mixup", "alpha", -1.0),
        ("mixup", "alpha", "0.2"),
        ("mixup", "alpha", float("nan")),
        ("mixup", "alpha", float("inf")),
        ("mixup", "alpha", True),
        ("mixup", "alpha", None),
        ("cutmix", "prob", 1.5),
        ("cutmix", "prob", -0.1),
        ("cutmix", "per_sample", 1),
        ("cutmix", "per_sample", "true"),
        ("cutmix", "placement", "outside"),
        ("cutmix", "pairing", "random"),
        ("cutout", "size", 0),
        ("cutout", "size", 2.5),
        ("cutout", "fill", "median"),
        ("random_erasing", "min_area", 0.0),
        ("random_erasing", "max_area", 1.1),
        ("random_erasing", "min_aspect", 1.5),
        ("ricap", "beta", 0),
        ("fmix", "decay", -1),
        ("fmix", "spectrum", "white"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(name: str, key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name}\.{key}: got .*, expected ") as caught:
        augmentations.create(name, **{key: value})
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_numbers_are_taken_in_either_type() -> None:
    assert augmentations.create("cutout", size=8.0) == augmentations.create("cutout", size=8)
    assert augmentations.resolve("mixup", {"alpha": 1})["alpha"] == 1.0
    assert isinstance(augmentations.resolve("mixup", {"alpha": 1})["alpha"], float)


@each_method
def test_resolve_and_describe_list_every_parameter(name: str) -> None:
    resolved = augmentations.resolve(name, {})
    info = augmentations.describe(name)
    assert {parameter.name: parameter.default for parameter in info.parameters} == resolved
    assert {"prob", "per_sample", "pairing"} <= set(resolved)
    assert augmentations.resolve(name, resolved) == resolved
    assert info.name == name
    assert info.summary
    assert all(parameter.doc and parameter.allowed for parameter in info.parameters)
    assert (info.paper is None) == (name in ("none", "choice", "compose"))


WRONG_IMAGES = {
    "three dimensions": torch.zeros(4, 3, 8),
    "uint8": torch.zeros(4, 3, 8, 8, dtype=torch.uint8),
    "empty batch": torch.zeros(0, 3, 8, 8),
    "no rows": torch.zeros(4, 3, 0, 8),
}
WRONG_LABELS = {
    "count": torch.zeros(3, dtype=torch.int64),
    "int32": torch.zeros(4, dtype=torch.int32),
    "classes": torch.zeros(4, 9),
    "integer rows": torch.zeros(4, 10, dtype=torch.int64),
    "too large": torch.tensor([0, 1, 2, 10]),
    "negative": torch.tensor([0, 1, 2, -1]),
    "another device": torch.zeros(4, dtype=torch.int64, device="meta"),
}


@each_method
def test_a_batch_of_a_wrong_kind_is_refused(name: str) -> None:
    for images in WRONG_IMAGES.values():
        with pytest.raises(ValueError, match=r"expected .*\(B, C, H, W\).* got"):
            augmentations.create(name)(images, labels_for(images.shape[0]), num_classes=10)
    for kind, labels in WRONG_LABELS.items():
        words = "labels" if kind == "another device" else r"labels: expected .* got"
        with pytest.raises(ValueError, match=words):
            _called(name, torch.zeros(4, 3, 8, 8), labels)


def _called(name: str, images: Tensor, labels: Tensor) -> augmentations.Batch:
    mix = augmentations.create(name)
    return mix(images, labels, num_classes=10, **beside(mix, images))


@each_method
@each_mode
def test_a_plan_refuses_another_batch_or_size(name: str, per_sample: bool) -> None:
    images = torch.rand(4, 3, 8, 12, generator=seeded(0))
    mix = augmentations.create(name, per_sample=per_sample)
    plan = mix.sample(images.shape, **all_needed(mix, images))
    with pytest.raises(ValueError, match="images: expected"):
        plan.mix_images(torch.zeros(5, 3, 8, 12))
    with pytest.raises(ValueError, match="labels: expected"):
        plan.mix_labels(torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="features: expected"):
        plan.mix_features(torch.zeros(5, 16))
    with pytest.raises(ValueError, match="masks: expected"):
        plan.mix_masks(torch.zeros(5, 8, 12, dtype=torch.int64))
    if name in ("cutmix", "cutout", "random_erasing", "ricap", "fmix"):
        with pytest.raises(ValueError, match="images: expected"):
            plan.mix_images(torch.zeros(4, 3, 12, 8))


# --- the loss -----------------------------------------------------------------------------------


@each_method
@each_mode
@each_device
def test_cross_entropy_is_torchs(name: str, per_sample: bool, device: str) -> None:
    """Three ways that must agree, in value and gradient: ours, dense targets, weighted sum."""
    hard = labels_for(7, device=device)
    soft = torch.rand(7, 10, generator=seeded(3)).softmax(dim=1).to(device)
    images = torch.rand(7, 3, 8, 8, generator=seeded(0)).to(device)
    mix = always(name, per_sample)
    plan = mix.sample(images.shape, device=device, **all_needed(mix, images))
    scores = (torch.randn(7, 10, generator=seeded(5)) * 4).to(device)
    for labels in (hard, soft):
        targets = plan.mix_labels(labels, num_classes=10)
        for label_smoothing in (0.0, 0.1, 1.0):
            for reduction in ("mean", "sum", "none"):
                _losses_agree(targets, scores, label_smoothing, reduction)


def _losses_agree(
    targets: augmentations.Targets, scores: Tensor, label_smoothing: float, reduction: str
) -> None:
    def ours(logits: Tensor) -> Tensor:
        return targets.cross_entropy(logits, label_smoothing, reduction)

    def with_dense(logits: Tensor) -> Tensor:
        return F.cross_entropy(
            logits, targets.dense(10), label_smoothing=label_smoothing, reduction=reduction
        )

    def weighted_sum(logits: Tensor) -> Tensor:
        loss = torch.zeros(len(logits), device=logits.device)
        for column in range(targets.labels.shape[1]):
            index_loss = F.cross_entropy(
                logits,
                targets.labels[:, column],
                label_smoothing=label_smoothing,
                reduction="none",
            )
            loss = loss + targets.weights[:, column] * index_loss
        return {"mean": loss.mean(), "sum": loss.sum(), "none": loss}[reduction]

    functions = [ours, with_dense, weighted_sum]
    if targets.free and label_smoothing:
        # torch smooths soft labels as if they summed to 1.
        functions.remove(with_dense)
    results = []
    for function in functions:
        logits = scores.clone().requires_grad_()
        value = function(logits)
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        results.append((value.detach(), gradient))
    for value, gradient in results[1:]:
        torch.testing.assert_close(results[0][0], value)
        torch.testing.assert_close(results[0][1], gradient)


def test_cross_entropy_by_hand() -> None:
    """Logits ln 1, ln 2, ln 5: probabilities 1/8, 2/8, 5/8."""
    targets = augmentations.Targets(torch.tensor([[1, 2]]), torch.tensor([[0.25, 0.75]]))
    logits = torch.tensor([[1.0, 2.0, 5.0]]).log()
    expected = -(0.25 * np.log(2 / 8) + 0.75 * np.log(5 / 8))
    assert float(targets.cross_entropy(logits)) == pytest.approx(expected, abs=1e-6)
    uniform = -(np.log(1 / 8) + np.log(2 / 8) + np.log(5 / 8)) / 3
    assert float(targets.cross_entropy(logits, 0.3)) == pytest.approx(
        0.7 * expected + 0.3 * uniform, abs=1e-6
    )


def test_cross_entropy_computes_in_float32() -> None:
    targets = augmentations.Targets(torch.tensor([[1], [0]]), torch.ones(2, 1))
    logits = torch.randn(2, 10, generator=seeded(0)).bfloat16()
    loss = targets.cross_entropy(logits)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, targets.cross_entropy(logits.float()))


def test_an_unknown_reduction_is_named() -> None:
    targets = augmentations.Targets(torch.tensor([[1]]), torch.ones(1, 1))
    with pytest.raises(ValueError, match=r"reduction: got 'max', expected mean, sum or none"):
        targets.cross_entropy(torch.zeros(1, 2), reduction="max")


def test_two_methods_of_one_name_are_refused(tmp_path, monkeypatch) -> None:
    import mixbench.augmentations.methods
    from mixbench.augmentations import registry

    def forget() -> None:
        for function in (registry._built_in, registry.plugins, registry._methods):
            function.cache_clear()

    source = (Path(mixbench.augmentations.methods.__file__).parent / "cutmix.py").read_text()
    (tmp_path / "copied.py").write_text(source)
    monkeypatch.setattr(
        mixbench.augmentations.methods,
        "__path__",
        [*mixbench.augmentations.methods.__path__, str(tmp_path)],
    )
    forget()
    try:
        with pytest.raises(ValueError, match=r"two augmentations are named 'cutmix'.*copied"):
            augmentations.available()
    finally:
        forget()
        monkeypatch.undo()
        sys.modules.pop("mixbench.augmentations.methods.copied", None)
