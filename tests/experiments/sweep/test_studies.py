"""The sweeps that ship: every one expands at every scale, and can come to a verdict."""

from __future__ import annotations

from collections import Counter

import pytest

from mixbench import augmentations
from mixbench.experiments.design import question as questions
from mixbench.experiments.merge import matches
from mixbench.experiments.sweep import expand, load, scales

STUDIES = (
    "alpha",
    "architecture",
    "audio",
    "combination",
    "cross_domain",
    "cross_modal",
    "data_fraction",
    "detection",
    "distillation",
    "localisation",
    "placement",
    "segmentation",
    "semi_segmentation",
    "semi_supervised",
    "smoothing",
    "staging",
    "transfer",
)
SCALES = ("quick", "standard", "paper")
DATA = (
    {"fashion_mnist"},
    {"fashion_scenes"},
    {"klettres"},
    {"mnist_5k"},
    {"fashion_mnist", "fashion_scenes"},
    {"emoji_hands", "emoji_names"},
    {"domains"},
)
OF_ONE_SIZE = {"demo", "demo_digits", "main", "dose", "tuned", "methods"}


def test_the_studies_ship_in_three_sizes_and_quick_comes_first() -> None:
    assert set(STUDIES) == set(load.shipped()) - OF_ONE_SIZE
    for name in STUDIES:
        assert scales.names(load.read_spec(name)) == SCALES
    assert all(path.stem == load.read_spec(path.stem)["name"] for path in load.shipped().values())


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_at_every_scale(name: str) -> None:
    keys = {}
    for scale in SCALES:
        found = load.load(name, scale=scale)
        assert found.name == f"{name}_{scale}"
        # Enough pairs for an interval; at full size as many as a verdict needs.
        seeds = Counter(cell for _, cell in found.keys)
        drawn = found.spec.get("replicates") or len(found.spec["seeds"])
        assert set(seeds.values()) == {drawn}
        assert drawn >= (5 if scale == "paper" else 3)
        runs = [run.model_dump(mode="json") for run in found.runs]
        pattern = found.spec["baseline"]
        assert any(matches(run, pattern) for run in runs)
        assert not all(matches(run, pattern) for run in runs)
        assert "?" in found.description and found.description.count(scale.capitalize()) >= 1
        assert expand.size(found.spec) == (
            found.cells,
            len(found.runs) - len(found.pretraining) * drawn,
        )
        keys[scale] = {run_key for run_key, _ in found.keys}
        if scale == "quick":
            # Of data that every machine of ours has, or is told how to get.
            names = frozenset(run.dataset.name for run in found.runs)
            assert names in DATA
    assert not keys["quick"] & keys["standard"] and not keys["standard"] & keys["paper"]


def test_the_studies_of_replicates_are_designed_for_their_questions() -> None:
    main, dose, tuned = (load.load(name) for name in ("main", "dose", "tuned"))
    assert (main.cells, len(main.runs)) == (42, 420)
    assert (dose.cells, len(dose.runs)) == (19, 190)
    # Three methods, nine settings each on five replicates; with their defaults, and none.
    assert (tuned.cells, len(tuned.runs)) == (7, 3 * 9 * 5 + 7 * 10)
    methods = load.load("methods")
    compared = {run.augmentation["name"] for run in methods.runs}
    # Those that a network for single labels of images, without attention, can be trained with.
    assert compared == set(augmentations.available()) - {
        *("transmix", "c_mixup", "mosaic", "spec_augment"),
        *("choice", "compose"),
    }
    # What `main` has done is not done again.
    assert len({key for key, _ in main.keys} & {key for key, _ in methods.keys}) == 7 * 2 * 10
    for found in (main, dose, tuned, methods):
        assert {run.dataset.validation_size for run in found.runs} == {2000}
        assert {run.replicate for run, _ in found.compared()} == set(range(10))
        assert questions.read(found.spec) is not None


def test_placement_compares_boxes_that_keep_the_same_share() -> None:
    """What the description says of the share of the own image is so, at both image sizes."""
    import torch

    from mixbench import augmentations

    for size in (28, 32):
        kept = {}
        for section in load.load("placement").spec["grid"]["augmentation"][1:]:
            mix = augmentations.create(**section, per_sample=True, pairing="roll")
            images = torch.zeros(20_000, 1, size, size)
            drawn = torch.Generator().manual_seed(0)
            batch = mix(images, torch.arange(20_000) % 10, 10, generator=drawn)
            source, share = batch.plan.sources()
            own = (share * (source == torch.arange(20_000)[:, None])).sum(1)
            limits = (
                section.get("placement", "clipped"),
                section.get("max_area"),
                section.get("prob"),
            )
            kept[limits] = own.mean().item(), own.std().item()
        clipped, matched = kept["clipped", None, None], kept["inside", 0.63, None]
        assert clipped[0] == pytest.approx(0.705, abs=0.01)
        assert kept["inside", None, None][0] == pytest.approx(0.53, abs=0.01)
        # Five standard errors of means of 20,000 are 0.01.
        assert matched == pytest.approx(clipped, abs=0.01)
        assert kept["inside", None, 0.62][0] == pytest.approx(clipped[0], abs=0.015)
