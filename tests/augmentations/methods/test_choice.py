"""Choice: how often each method is drawn, that each sample follows its own, nested parameters."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from scipy.stats import beta

from mixbench import augmentations
from mixbench.augmentations.plans.at_depth import AtDepth
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.blend import Blend
from mixbench.augmentations.plans.composite import Chain, Select, stages_of
from mixbench.augmentations.plans.paste import Paste
from tests.support.oracles import (
    assert_distribution,
    assert_rate,
    assert_uniform_counts,
    one_hot_images,
    pixel_shares,
    seeded,
)

KEEP = Blend(torch.ones(1, 1, 1, 1).expand(2, -1, -1, -1))


def choice(*methods: Any, **parameters: Any) -> Any:
    return augmentations.create("choice", methods=methods, **parameters)


# What is drawn.


def test_the_default_is_timms_switch() -> None:
    mix = augmentations.create("choice")
    assert [(method.name, method.alpha) for method in mix.methods] == [
        ("mixup", 0.8),
        ("cutmix", 1.0),
    ]
    generator = seeded(0)
    plans = [mix.sample((4, 1, 8, 8), generator=generator) for _ in range(4000)]
    # False alarm 6e-7.
    assert_rate(sum(isinstance(plan, Paste) for plan in plans), len(plans), 0.5)
    strengths = torch.stack([plan.keep[0, 0, 0, 0] for plan in plans if isinstance(plan, Blend)])
    # False alarm 1e-6.
    assert_distribution(strengths, beta(0.8, 0.8).cdf, 1e-4, 1 - 1e-4)


@pytest.mark.parametrize("weights", [(1.0, 3.0), (3.0, 1.0), (0.0, 1.0), (2.0, 0.0)])
def test_weights_are_rates_per_batch(weights: tuple[float, float]) -> None:
    mix = choice("mixup", "cutmix", weights=weights)
    generator = seeded(1)
    plans = [mix.sample((2, 1, 4, 4), generator=generator) for _ in range(3000)]
    hits = sum(isinstance(plan, Blend) for plan in plans)
    if 0 in weights:
        assert hits == len(plans) * weights[0] / sum(weights)
    else:
        assert_rate(hits, len(plans), weights[0] / sum(weights))  # false alarm 6e-7


def test_weights_are_rates_per_sample() -> None:
    mix = choice("mixup", "cutmix", "none", "fmix", weights=[1, 0, 2, 5], per_sample=True)
    (plan,) = stages_of(mix.sample((20000, 1, 2, 2), generator=seeded(2)))
    assert isinstance(plan, Select)
    counts = plan.choice.bincount(minlength=4).tolist()
    for count, weight in zip(counts, (1, 0, 2, 5), strict=True):
        if weight:
            assert_rate(count, 20000, weight / 8)  # 6e-7 each
        else:
            assert count == 0


def test_samples_choose_apart_from_each_other() -> None:
    """Pairs of neighbours take the four combinations equally often: false alarm 1e-6."""
    mix = choice("mixup", "cutmix", per_sample=True)
    plan = mix.sample((20000, 1, 2, 2), generator=seeded(3))
    pairs = plan.choice.view(-1, 2)
    assert_uniform_counts((2 * pairs[:, 0] + pairs[:, 1]).bincount(minlength=4).numpy())


def test_prob_of_the_whole_and_of_a_method_multiply() -> None:
    # MixUp with derangement changes every sample that it mixes: 0.4 * 0.5, and 0 with "none".
    mix = choice(
        {"name": "mixup", "alpha": 50, "prob": 0.5, "pairing": "derange"},
        "none",
        per_sample=True,
        prob=0.4,
        weights=[3, 1],
    )
    images = torch.rand(20000, 1, 1, 2, generator=seeded(4))
    plan = mix.sample(images.shape, generator=seeded(5))
    changed = (plan.mix_images(images) != images).flatten(1).any(dim=1)
    assert torch.equal(changed, plan.changed())
    assert_rate(int(changed.sum()), 20000, 0.4 * 0.5 * 0.75)  # 6e-7


# What each sample becomes.


def test_each_sample_is_mixed_as_its_method_does_with_unmixed_partners() -> None:
    mix = choice("mixup", "cutmix", "ricap", "none", per_sample=True)
    images = one_hot_images(40, 8, 8)
    batch = mix(images, torch.arange(40), 40, generator=seeded(6))
    assert batch.targets.labels.shape == (40, 4)
    seen = set()
    for sample, which in enumerate(batch.plan.choice.tolist()):
        mixed = batch.images[sample]
        here = mixed.flatten(1).any(dim=1)
        seen.add(which)
        if which == 0:  # one weight for all pixels
            assert torch.equal(mixed, mixed[:, :1, :1].expand_as(mixed))
            assert here.sum() <= 2
        else:  # copied pixels
            assert bool(((mixed == 0) | (mixed == 1)).all())
            # Had partners been mixed before, there could be more.
            assert here.sum() <= {1: 2, 2: 4, 3: 1}[which]
        if which == 3:
            assert torch.equal(mixed, images[sample])
    assert seen == {0, 1, 2, 3}
    torch.testing.assert_close(
        batch.targets.dense(40).double(), pixel_shares(batch.images), atol=1e-6, rtol=0
    )


def test_masks_features_boxes_and_vectors_follow_the_same_choice() -> None:
    mix = choice("mixup", "cutmix", "cutout", per_sample=True)
    plan = mix.sample((12, 3, 8, 8), generator=seeded(7))
    assert set(plan.choice.tolist()) == {0, 1, 2}
    masks = torch.arange(12).view(12, 1, 1).repeat(1, 8, 8)
    vectors = torch.rand(12, 5, generator=seeded(8))
    maps = torch.rand(12, 4, 2, 2, generator=seeded(9))
    targets = [
        {"boxes": torch.tensor([[0.0, 0.0, 8.0, 8.0]]), "labels": torch.tensor([b])}
        for b in range(12)
    ]
    boxes = plan.mix_boxes(targets)
    alone = [one.mix_boxes(targets) for one in plan.plans]
    for sample, which in enumerate(plan.choice.tolist()):
        one = plan.plans[which]
        assert torch.equal(plan.mix_masks(masks)[sample], one.mix_masks(masks)[sample])
        assert torch.equal(plan.mix_features(vectors)[sample], one.mix_features(vectors)[sample])
        assert torch.equal(plan.mix_features(maps)[sample], one.mix_features(maps)[sample])
        for key, value in boxes[sample].items():
            assert torch.equal(value, alone[which][sample][key])


def test_gradients_go_to_what_each_sample_shows() -> None:
    mix = choice("mixup", "cutmix", per_sample=True)
    images = torch.rand(6, 2, 4, 4, generator=seeded(10)).requires_grad_()
    plan = mix.sample(images.shape, generator=seeded(11))
    share = plan.mix_images(one_hot_images(6, 4, 4))  # how much of each pixel is whose
    plan.mix_images(images)[:, 0].sum().backward()
    assert images.grad is not None
    torch.testing.assert_close(images.grad[:, 0], share.sum(dim=0))
    assert not images.grad[:, 1].any()


# Nested parameters.


def test_resolved_it_is_plain_and_the_same_again() -> None:
    resolved = augmentations.resolve(
        "choice",
        {"methods": ["cutmix", {"name": "compose", "methods": ["mixup"]}], "weights": [1, 2]},
    )
    assert json.loads(json.dumps(resolved)) == resolved
    assert augmentations.resolve("choice", resolved) == resolved
    first, second = resolved["methods"]
    assert first == {"name": "cutmix", **augmentations.resolve("cutmix", {})}
    assert second["methods"] == [{"name": "mixup", **augmentations.resolve("mixup", {})}]
    assert resolved["weights"] == [1.0, 2.0]
    made = augmentations.create("choice", **resolved)
    assert made == choice(
        "cutmix", augmentations.create("compose", methods=["mixup"]), weights=[1, 2]
    )


def test_weights_that_are_alike_are_one_configuration() -> None:
    assert choice("mixup", "fmix", weights=[2, 2]) == choice("mixup", "fmix")
    assert choice("mixup", "fmix", weights=[2, 3]) != choice("mixup", "fmix")


def test_what_methods_take_over_from_the_whole() -> None:
    mix = choice("mixup", {"name": "cutmix", "pairing": "flip"}, pairing="roll")
    assert [method.pairing for method in mix.methods] == ["roll", "flip"]
    assert [method.per_sample for method in mix.methods] == [False, False]
    mix = choice("mixup", {"name": "cutmix", "per_sample": False}, per_sample=True)
    assert [method.per_sample for method in mix.methods] == [True, True]
    # A method may draw per sample in a choice per batch.
    mix = choice({"name": "mixup", "per_sample": True}, "cutout")
    assert [method.per_sample for method in mix.methods] == [True, True]
    plan = mix.sample((50, 1, 2, 2), generator=seeded(0))
    assert not isinstance(plan, Select)


@pytest.mark.parametrize(
    ("methods", "rule", "images"),
    [
        (["mixup", "cutmix"], "pixels", False),
        (["cutout", "none"], "kept", False),
        (["cutmix", "cutout"], "declared", False),
        (["saliencymix", "cutmix"], None, True),
    ],
)
def test_it_is_what_its_methods_are(methods: list[str], rule: str | None, images: bool) -> None:
    mix = choice(*methods)
    assert rule is None or mix.label_rule == rule
    assert mix.needs_images is ("images" in mix.needs) is images
    assert not type(mix).needs


def test_a_method_that_looks_at_images_gets_them() -> None:
    mix = choice("saliencymix", "mixup", per_sample=True)
    images = torch.rand(6, 3, 16, 16, generator=seeded(1))
    assert mix(images, torch.arange(6), 6, generator=seeded(2)).images.shape == images.shape
    with pytest.raises(ValueError, match="expected images="):
        mix.sample(images.shape)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"methods": "mixup"}, "choice.methods: got 'mixup', expected a list of methods"),
        ({"methods": []}, "choice.methods: got [], expected a list of methods"),
        ({"methods": ["mixup", "cutmx"]}, "method 2: unknown augmentation 'cutmx'; did you mean"),
        ({"methods": [3]}, "method 1: got 3, expected a name or a mapping"),
        ({"methods": [{"alpha": 1}]}, "expected a name or a mapping"),
        ({"methods": [{"name": "mixup", "alpha": -1}]}, "mixup.alpha: got -1, expected a number"),
        ({"methods": [{"name": "mixup", "aplha": 1}]}, "did you mean 'alpha'?"),
        ({"methods": [{"name": "mixup", "pairing": "x"}]}, "mixup.pairing: got 'x'"),
        ({"pairing": "x"}, "choice.pairing: got 'x'"),
        ({"weights": [1]}, "choice.weights: got [1.0], expected 2 numbers"),
        ({"weights": [0, 0]}, "one at least is above 0"),
        ({"weights": [1e308, 1e308]}, "choice.weights: got [1e+308, 1e+308], expected 2 numbers"),
        ({"weights": [-1, 1]}, "choice.weights: got [-1, 1], expected a list"),
        ({"weights": 1}, "choice.weights: got 1, expected a list"),
        ({"weights": [True, 1]}, "expected a list"),
    ],
)
def test_errors_say_where(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        augmentations.create("choice", **parameters)
    assert "\n" not in str(caught.value)


def test_the_listing_shows_what_can_be_written() -> None:
    info = augmentations.describe("choice")
    defaults = {parameter.name: parameter.default for parameter in info.parameters}
    assert [method["name"] for method in defaults["methods"]] == ["mixup", "cutmix"]
    assert info.parameters[0].name == "methods"
    assert "list of methods" in info.parameters[0].allowed


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Select(torch.tensor([0, 2]), (KEEP, KEEP)), "choice: expected values from 0 to 1, got 0"),
        (
            Select(torch.tensor([0, -1]), (KEEP, KEEP)),
            "choice: expected values from 0 to 1, got -1",
        ),
        (Select(torch.tensor([0.0, 1.0]), (KEEP, KEEP)), "choice: expected (B,) int64"),
        (Select(torch.tensor([0, 0, 0]), (KEEP,)), "plans: expected at least one, all for a batch"),
        (Select(torch.tensor([0, 0]), ()), "plans: expected at least one"),
        (Select(torch.tensor([0, 0]), (AtDepth(KEEP, 1), AtDepth(KEEP, 2))), "expected one depth"),
        (AtDepth(KEEP, 0), "layer: expected at least 1, got 0"),
        (AtDepth(AtDepth(KEEP, 1), 1), "plan: expected one of depth 0, got 1"),
        (Chain(()), "stages: expected at least one plan"),
        (Chain((AtDepth(KEEP, 1), KEEP)), "by depth, got batches of [2] at depths [1, 0]"),
        (Chain((KEEP, Blend(torch.ones(3, 1, 1, 1)))), "for the same batch"),
    ],
)
def test_a_plan_that_could_not_be_applied_says_why(plan: Plan, message: str) -> None:
    """`check` is for plans that come from a file."""
    with pytest.raises(ValueError, match=re.escape(message)):
        plan.check_fields()


def test_a_plan_that_was_drawn_passes() -> None:
    methods = ["mixup", "ricap", {"name": "manifold_mixup", "depths": [2]}]
    choice(*methods, per_sample=True).sample((6, 1, 8, 8), generator=seeded(1)).check_fields()
