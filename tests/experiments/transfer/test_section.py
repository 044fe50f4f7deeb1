"""The transfer section of a configuration: its one way of being written, and what can't be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mixbench.experiments import cli
from mixbench.experiments.config import resolve, schema
from mixbench.experiments.errors import UserError
from mixbench.experiments.sweep.cell_parser import CellParser
from mixbench.experiments.transfer import dry_check

CELL = "cell:0123456789abcdef"


def parsed(transfer: Any, **sections: Any) -> schema.RunConfig:
    return resolve.parse({"dataset": {"name": "digits"}, "transfer": transfer, **sections})


NOTHING: list[dict[str, Any]] = [
    {},
    {"freeze": "none"},
    {"head": "new", "mixing": "pixels", "backbone_rate": 1, "layer_decay": 1.0, "unfreeze": []},
    {"weights": None, "freeze": None, "cache": None},
]


@pytest.mark.parametrize("transfer", NOTHING)
def test_a_section_that_asks_for_nothing_is_none(transfer: dict[str, Any]) -> None:
    made, bare = parsed(transfer), resolve.parse({"dataset": {"name": "digits"}})
    assert made.transfer is None
    assert (made.run_key, made.cell_key) == (bare.run_key, bare.cell_key)


THE_SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"freeze": "2"}, {"freeze": 2, "head": "new", "mixing": "pixels"}),
    # Rates of what is never trained.
    ({"freeze": "all", "backbone_rate": 0.1, "layer_decay": 0.5}, {"freeze": "all"}),
    ({"weights": CELL, "freeze": "none", "backbone_rate": 1.0}, {"weights": CELL}),
    (
        {
            "freeze": "all",
            "unfreeze": [{"at": "0.5", "down_to": "3"}, {"at": "plateau", "down_to": "all"}],
        },
        {
            "freeze": "all",
            "unfreeze": [{"down_to": 3, "at": 0.5}, {"at": "plateau 3", "down_to": "all"}],
        },
    ),
]


@pytest.mark.parametrize(("one", "other"), THE_SAME)
def test_ways_of_writing_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert parsed(one) == parsed(other)
    assert parsed(one).run_key == parsed(other).run_key != parsed({}).run_key
    stored = json.loads(json.dumps(parsed(one).model_dump(mode="json")))
    assert resolve.parse(stored) == parsed(one)


def test_rates_of_what_will_be_trained_count() -> None:
    gradual = {"freeze": "all", "unfreeze": "gradual"}
    assert parsed({**gradual, "backbone_rate": 0.1}).run_key != parsed(gradual).run_key


points = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4, unique=True)


@given(points=points, lowest=st.permutations([0, 1, 2, 3]), orderly=st.booleans())
def test_unfreezings_are_taken_in_order_and_no_other(
    points: list[float], lowest: list[int], orderly: bool
) -> None:
    lowest = lowest[: len(points)]
    if orderly:
        points, lowest = sorted(points), sorted(lowest, reverse=True)
    pairs = zip(points, lowest, strict=True)
    transfer = unfreezing(*((at, low or "all") for at, low in pairs))
    if points == sorted(points) and lowest == sorted(lowest, reverse=True):
        made = parsed(transfer)
        assert made.transfer is not None
        assert [point["at"] for point in made.transfer.points] == points
    else:
        with pytest.raises(UserError, match="unfreez"):
            parsed(transfer)


def unfreezing(*points: tuple[Any, Any], freeze: Any = "all") -> dict[str, Any]:
    return {"freeze": freeze, "unfreeze": [{"at": at, "down_to": low} for at, low in points]}


BAD: list[tuple[Any, str]] = [
    (5, "transfer: got 5, expected a mapping"),
    ({"frezee": 1}, "unknown key of transfer 'frezee'; did you mean 'freeze'?"),
    ({"freeze": -1}, "transfer.freeze: got -1, expected none, all, how many layers"),
    ({"freeze": True}, "transfer.freeze: got True, expected none, all"),
    ({"freeze": 1.5}, "transfer.freeze: got 1.5, expected none, all"),
    ({"freeze": ""}, "transfer.freeze: got '', expected none, all"),
    ({"freeze": 4}, "transfer.freeze: got layer 4, expected at most 3, the layers of small_cnn"),
    ({"unfreeze": "gradual"}, "unfreeze: got gradual, but nothing is frozen; give freeze"),
    ({"freeze": "all", "unfreeze": "soon"}, "transfer.unfreeze: got 'soon', expected gradual, or"),
    ({"freeze": "all", "unfreeze": {"at": 0.5}}, "expected gradual, or a list of {at: MOMENT"),
    ({"freeze": "all", "unfreeze": [3]}, "transfer.unfreeze: 1: got 3, expected gradual, or a"),
    ({"freeze": "all", "unfreeze": [{"at": 0.5}]}, "1: got {'at': 0.5}, expected gradual, or a"),
    (unfreezing((1.5, 3)), "transfer.unfreeze: 1, at: got 1.5, expected a fraction from 0 to 1"),
    (unfreezing(("unfreeze 1", 3)), "1, at: got 'unfreeze 1', which is for staging"),
    (unfreezing((0.5, 0)), "1, down_to: got 0, expected the number of the lowest layer"),
    (unfreezing((0.5, "none")), "1, down_to: got none, expected the number of the lowest layer"),
    (unfreezing((0.5, 4)), "transfer.unfreeze: got layer 4, expected at most 3"),
    (unfreezing((0, 3)), "transfer.unfreeze: 1, at: got 0.0, expected after the start"),
    (unfreezing((1.0, 3)), "1, at: got 1.0, expected before the end of the training, which has 30"),
    (unfreezing(("epoch 30", 3)), "1, at: got epoch 30, expected before the end"),
    (unfreezing(("plateau 2 by epoch 31", 3)), "expected before the end of the training"),
    (unfreezing((0.5, 3), ("epoch 15", 2)), "2, at: got epoch 15, expected after 0.5"),
    (unfreezing((0.5, 3), ("plateau", 2), (0.4, 1)), "3, at: got 0.4, expected after 0.5"),
    (unfreezing((0.5, 2), (0.6, 2)), "2, down_to: got 2, which unfreezing 1 leaves trained"),
    (unfreezing((0.5, "all"), (0.6, 1)), "expected no more of them, everything is trained"),
    (
        unfreezing((0.5, 3), freeze=2),
        "1, down_to: got 3, which freeze leaves trained already; expected a layer up to 2, or all",
    ),
    ({"mixing": "features"}, "mixing: got features, but nothing is frozen; give freeze"),
    ({"mixing": "feature", "freeze": 1}, "expected one of 'pixels' or 'features'"),
    ({"mixing": "features", "freeze": 0}, "features are the output of a frozen layer"),
    ({"head": "keep"}, "head: got keep, but there are no weights to keep"),
    ({"backbone_rate": 0}, "transfer.backbone_rate: got 0, expected a number above 0"),
    ({"backbone_rate": True}, "transfer.backbone_rate: a number or a name, not true"),
    ({"layer_decay": 1.1}, "transfer.layer_decay: got 1.1, expected a number of at most 1"),
    ({"cache": "maybe"}, "transfer.cache: got 'maybe', expected true or false"),
    ({"cache": True}, "transfer.cache: got true, but nothing is frozen"),
    ({"cache": True, **unfreezing((0.5, 3))}, "but the frozen part does not stay frozen"),
]


@pytest.mark.parametrize(("transfer", "expected"), BAD)
def test_a_wrong_value_is_named_with_what_is_right(transfer: Any, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        parsed(transfer)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"augmentation": "cutmix"}, "images are mixed (transfer.mixing: pixels, not features)"),
        ({"training": {"crop_padding": 2}}, "crops vary (training.crop_padding: 2, not 0)"),
        ({"training": {"flip": True}}, "images are flipped (training.flip: true, not false)"),
    ],
)
def test_features_of_what_varies_are_not_cached(sections: dict[str, Any], expected: str) -> None:
    parsed({"freeze": "all", "cache": True})
    with pytest.raises(UserError) as caught:
        parsed({"freeze": "all", "cache": True}, **sections)
    assert f"transfer.cache: got true, but {expected}" in str(caught.value)


def test_a_grid_of_methods_is_checked_method_by_method() -> None:
    """What is cached without mixing is not cached with it, also where the rest was seen before."""
    parser = CellParser()
    raw: dict[str, Any] = {"dataset": {"name": "digits"}, "augmentation": "none"}
    raw["transfer"] = {"freeze": "all", "cache": True}
    parser.parse(raw, [(None, 0)])
    parser.parse({**raw, "transfer": {"freeze": "all"}, "augmentation": "mixup"}, [(None, 0)])
    with pytest.raises(UserError, match=r"transfer\.cache: got true, but images are mixed"):
        parser.parse({**raw, "augmentation": "mixup"}, [(None, 0)])


# What only the network can tell, before any run begins.

MISSING: list[tuple[str, dict[str, Any], str]] = [
    ("timm/resnet18", {"freeze": 5}, "transfer.freeze: got layer 5, expected at most 4, the"),
    ("timm/resnet18", {"freeze": "layr2"}, "has no module 'layr2'; did you mean 'layer2'?"),
    ("timm/resnet18", {"freeze": "fc"}, "'fc' is the classifier, which is always trained"),
    ("timm/resnet18", unfreezing((0.5, 7)), "transfer.unfreeze: got layer 7, expected at most 4"),
    ("small_cnn", {"freeze": "feature.3"}, "no module 'feature.3'; did you mean 'features.3'?"),
    ("small_cnn", {"freeze": 0}, "got 0, but nothing up to there has a parameter"),
    ("timm/deit_tiny_distilled_patch16_224", {"layer_decay": 0.5}, "has no single classifier"),
]


@pytest.mark.parametrize(("model", "transfer", "expected"), MISSING)
def test_what_the_network_lacks(
    model: str,
    transfer: dict[str, Any],
    expected: str,
    tmp_path: Path,
    runs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = {
        "name": "bad",
        "fixed": {
            "dataset": {"name": "digits", "train_size": 1300, "image_size": 32},
            "model": {"name": model},
            "training": {"epochs": 1},
        },
        "grid": {"transfer": [None, transfer]},
        "seeds": [0],
    }
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(spec))
    assert cli.main(["sweep", str(tmp_path / "bad.yaml"), "--device", "cpu"]) == 2
    out, err = capsys.readouterr()
    assert expected in err and f"(model {model})" in err
    assert err.count("\n") == 1 and not out and not runs.exists()


def test_more_unfreezings_than_the_network_has_layers() -> None:
    """A gradual unfreezing has as many as there are layers with something frozen: three here."""
    transfer = {"freeze": "all", "unfreeze": "gradual"}
    for number in (3, 4):
        staging = {"phases": [{"from": f"unfreeze {number}"}]}
        made = parsed(transfer, augmentation="mixup", staging=staging)
        if number == 3:
            dry_check.check_freezing([made])
            continue
        with pytest.raises(UserError, match=r"from: unfreeze 4, but in small_cnn .* 3 unfreezings"):
            dry_check.check_freezing([made])
