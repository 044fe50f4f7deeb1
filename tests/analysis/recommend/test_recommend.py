"""The lines to paste run, mix as they say, and are those of what the sweep recommends."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mixbench
from mixbench.analysis.recommend.settings import Settings, settings_of
from mixbench.analysis.recommend.snippets import Snippet, snippets
from mixbench.experiments import cli
from mixbench.experiments.cli.recommend import defaults
from mixbench.experiments.merge import flatten
from mixbench.experiments.store.sweep_folder import SweepFolder

BOTH = ("timm", "torchvision")
TWO = ["mixup", {"name": "cutmix", "alpha": 0.5}]
INSIDE = {"name": "manifold_mixup", "depths": [0, 1]}

CASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "mixup": ({"name": "mixup", "alpha": 0.2}, BOTH),
    "half": ({"name": "cutmix", "prob": 0.5, "pairing": "flip"}, BOTH),
    "per sample": ({"name": "cutmix", "per_sample": True}, ("timm",)),
    "choice": ({"name": "choice", "methods": TWO, "weights": [1, 3]}, BOTH),
    "erasing": ({"name": "random_erasing"}, BOTH),
    "as drawn": ({"name": "cutmix", "labels": "uncorrected"}, ("timm",)),
    "inside": ({"name": "cutmix", "placement": "inside"}, ()),
    "small boxes": ({"name": "cutmix", "max_area": 0.3}, ()),
    "three": ({"name": "choice", "methods": [*TWO, "fmix"]}, ()),
    "compose": ({"name": "compose"}, ()),
    "fmix": ({"name": "fmix"}, ()),
    "features": (INSIDE, ()),
}


def settings(section: dict[str, Any], **fields: Any) -> Settings:
    """Those of a cell with this augmentation, as a table of cells has it."""
    mix = mixbench.create(**section)
    return settings_of(
        flatten({"augmentation": {"name": mix.name, **mix.parameters_as_json()}, **fields}),
        classes=7,
    )


def run(snippet: Snippet, epoch: int = 0) -> dict[str, Any]:
    """Execute the lines in a training step; return what they left behind."""
    torch.manual_seed(0)
    np.random.seed(0)
    names: dict[str, Any] = {
        "model": nn.Sequential(nn.Conv2d(3, 7, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "images": torch.rand(8, 3, 16, 16),
        "labels": torch.arange(8) % 7,
        "image": torch.rand(3, 16, 16),
        "epoch": epoch,
        "epochs": 10,
    }
    before = names["images"].clone(), names["image"].clone()
    exec("\n".join(snippet.lines), names)
    changed = (before[0] != names["images"]).any() or (before[1] != names["image"]).any()
    return {**names, "changed": bool(changed)}


@pytest.mark.parametrize("case", CASES)
def test_the_lines_run_where_a_library_has_the_method(case: str) -> None:
    section, able = CASES[case]
    wanted = settings(section)
    found = {one.library: one for one in snippets(wanted, defaults())}
    assert list(found) == ["mixbench", *BOTH]
    assert tuple(name for name in BOTH if found[name].lines) == able
    assert all(found[name].notes for name in BOTH), "what differs, or why it can't be expressed"
    for name in ("mixbench", *able):
        left = run(found[name])
        if "loss" in left:
            left["loss"].backward()
    # In full and without defaults: the same method.
    for given in (None, defaults()):
        assert run(snippets(wanted, given)[0])["mix"] == mixbench.create(**section)


def test_the_classes_have_the_strength_that_the_sweep_had() -> None:
    choice = settings(CASES["choice"][0], training={"label_smoothing": 0.1})
    _, timm, torchvision = snippets(choice)
    mix = run(timm)["mix"]
    assert (mix.mixup_alpha, mix.cutmix_alpha, mix.switch_prob) == (1.0, 0.5, 0.75)
    assert (mix.label_smoothing, mix.num_classes, mix.mode) == (0.1, 7, "batch")
    as_drawn = snippets(settings(CASES["as drawn"][0]))[1]
    assert (mix.correct_lam, run(as_drawn)["mix"].correct_lam) == (True, False)
    drawn = run(torchvision)["mix"]
    assert [one._dist.concentration0.item() for one in drawn.transforms] == [1.0, 0.5]
    assert drawn.p == [0.25, 0.75]
    erase = [run(one)["erase"] for one in snippets(settings({"name": "random_erasing"}))[1:]]
    assert (
        (erase[0].probability, erase[0].max_area) == (erase[1].p, erase[1].scale[1]) == (0.5, 0.4)
    )


def test_a_binary_loss_is_in_the_lines() -> None:
    wanted = settings({"name": "mixup"}, training={"loss": "bce", "bce_threshold": 0.2})
    of_mixbench, timm, torchvision = snippets(wanted)
    for snippet in (of_mixbench, timm):
        names = run(snippet)
        present = names["soft"].gt(0.2).float()
        logits = names["model"](names["images"])
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, present)
        assert torch.allclose(names["loss"], expected)
    assert not torchvision.lines and "bce" in torchvision.notes[0]


@pytest.mark.parametrize(
    ("phases", "on", "off"),
    [([{"from": 0.0, "to": 0.5}], 4, 5), ([{"from": 0.75, "to": 1.0}], 8, 7)],
)
def test_a_schedule_switches_all_three(phases: list[Any], on: int, off: int) -> None:
    staged = settings({"name": "cutmix"}, staging={"phases": phases, "name": "a part"})
    for snippet in snippets(staged):
        assert run(snippet, epoch=on)["changed"] and not run(snippet, epoch=off)["changed"]


def test_a_schedule_of_probabilities() -> None:
    constant = [{"from": 0.0, "to": 1.0, "prob": 0.25}]
    staged = settings(
        {"name": "cutmix"}, staging={"phases": constant, "name": "dose 0.25 constant"}
    )
    assert [run(one)["mix"] for one in snippets(staged)[:1]] == [
        mixbench.create("cutmix", prob=0.25)
    ]
    ramp = [{"from": 0.0, "to": 1.0, "prob": {"from": 0.0, "to": 1.0, "shape": "linear"}}]
    ours, *others = snippets(settings({"name": "cutmix"}, staging={"phases": ramp, "name": "up"}))
    assert ours.lines and "staging: up" in ours.notes[0]
    assert all(not one.lines and "no schedule such as up" in one.notes[0] for one in others)
    features = settings({"name": "cutmix"}, transfer={"mixing": "features"})
    assert [bool(one.lines) for one in snippets(features)] == [True, False, False]
    assert snippets(settings({"name": "none"})) == ()


def test_the_command(
    full_sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIXBENCH_RUNS", str(full_sweep.path.parent))
    name = full_sweep.name
    assert cli.main(["recommend", name]) == 0
    said = capsys.readouterr().out
    assert "by Accuracy (test/accuracy), where 0.5 points matter" in said
    assert "To use CutMix:" in said and "mixbench.create('cutmix')" in said
    assert "  use " in said and "against no mixing:" in said
    assert cli.main(["recommend", name, "--for", "calibration"]) == 0
    assert "by ECE (test/ece), where 1 point matters" in capsys.readouterr().out
    assert cli.main(["recommend", name, "--for", "occlusion"]) == 0
    assert "which is what Cutout and Random Erasing train on" in capsys.readouterr().out
    assert cli.main(["recommend", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metric"] == "test/accuracy" and len(found["regimes"][0]["options"]) == 7
    assert {one["advice"] for one in found["regimes"][0]["options"]} >= {"use", "baseline"}
    assert all(one["mixbench"]["lines"] for one in found["use"])
    for words, problem in (
        ((name, "--for", "acuracy"), "did you mean 'accuracy'?"),
        ((name, "--for", "attack"), f"mixbench evaluate {name} --only attack measures it"),
        (("demmo",), "no sweep 'demmo'"),
    ):
        assert cli.main(["recommend", *words]) == 2
        error = capsys.readouterr().err
        assert problem in error and error.count("\n") == 1
