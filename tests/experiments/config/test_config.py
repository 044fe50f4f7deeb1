"""A configuration: its keys, its defaults, and what is said of a wrong one."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mixbench import augmentations
from mixbench.experiments.config import resolve, schema
from mixbench.experiments.errors import UserError

SHORT: dict[str, Any] = {
    "dataset": {"name": "fashion_mnist", "train_size": 2000},
    "augmentation": {"name": "cutmix"},
}

EVERY_FIELD = [
    ("dataset.name", "cifar10"),
    ("dataset.train_size", 1000),
    ("dataset.validation_fraction", 0.2),
    ("dataset.validation_size", 500),
    ("dataset.split_seed", 1),
    ("dataset.image_size", 32),
    ("dataset.left_out_classes", ["Bag", "Sandal"]),
    ("dataset.image_size", [32, 24]),
    ("model.name", "resnet20"),
    ("model.width", 8),
    ("model.input_size", 64),
    ("augmentation.name", "fmix"),
    ("augmentation.alpha", 0.5),
    ("augmentation.labels", "uncorrected"),
    ("augmentation.axis", "width"),
    ("augmentation.prob", 0.5),
    ("augmentation.per_sample", True),
    ("augmentation.pairing", "roll"),
    ("augmentation.placement", "inside"),
    ("augmentation.min_area", 0.1),
    ("augmentation.max_area", 0.5),
    ("staging.name", "first_75"),
    ("staging.phases", [{"to": 0.3, "prob": 0.5}]),
    ("training.epochs", 31),
    ("training.batch_size", 64),
    ("training.learning_rate", 0.2),
    ("training.momentum", 0.8),
    ("training.nesterov", False),
    ("training.weight_decay", 0.0),
    ("training.optimiser", "adamw"),
    ("training.schedule", "cosine"),
    ("training.warmup", 0.1),
    ("training.label_smoothing", 0.1),
    ("training.loss", "bce"),
    ("training.class_weights", "balanced"),
    ("training.sampler", "balanced"),
    ("training.ema", 0.99),
    ("training.swa", 0.5),
    ("training.swa.from", 0.5),
    ("training.repeated_augmentation", 4),
    ("training.ema.decay", 0.99),
    ("training.crop", "resized"),
    ("training.crop_scale", [0.5, 1]),
    ("training.crop_padding", 0),
    ("training.flip", False),
    ("training.amp", False),
    ("training.channels_last", False),
    ("training.devices", 2),
    ("training.gradient_noise", {"every": 2}),
    ("training.gradient_noise.every", 2),
    ("training.gradient_noise.batches", 3),
    ("training.gradient_noise.draws", 3),
    ("training.gradient_noise.seed", 1),
    ("training.validate_every", 5),
    ("transfer.weights", "cell:0123456789abcdef"),
    ("teacher.weights", "cell:0123456789abcdef"),
    ("streams.unlabelled", {"algorithm": "fixmatch", "dataset": "digits"}),
    ("transfer.freeze", 2),
    ("transfer.backbone_rate", 0.1),
    ("transfer.layer_decay", 0.75),
    ("evaluation.batch_size", 100),
    ("evaluation.ece_bins", 10),
    ("evaluation.occlusion.shapes", ["centre"]),
    ("evaluation.occlusion.fractions", [0.5]),
    ("evaluation.occlusion.images", 100),
    ("evaluation.occlusion.seed", 1),
    ("seed", 1),
]


NEED_OTHERS = {
    "streams.unlabelled.algorithm",
    "streams.unlabelled.augmentation",
    "streams.unlabelled.dataset",
    "streams.unlabelled.ramp_up",
    "streams.unlabelled.ratio",
    "streams.unlabelled.size",
    "streams.unlabelled.teacher",
    "streams.unlabelled.temperature",
    "streams.unlabelled.threshold",
    "streams.unlabelled.weight",
    "teacher.model",
    "teacher.model.name",
    "teacher.model.width",
    "teacher.model.source",
    "teacher.model.small_stem",
    "teacher.model.input_size",
    "teacher.model.drop_path",
    "teacher.temperature",
    "teacher.weight",
    "teacher.sees",
    "dataset.targets",
    "dataset.domains",
    "dataset.target",
    "task.name",
    "task.mixing",
    "dataset.train_fraction",
    "dataset.fit",
    "dataset.pixel_range",
    "dataset.folds",
    "dataset.mean",
    "dataset.std",
    "dataset.source",
    "dataset.sound",
    "model.small_stem",
    "model.drop_path",
    "model.source",
    "transfer.head",
    "transfer.unfreeze",
    "transfer.mixing",
    "transfer.cache",
    "training.bce_threshold",
    "training.sam_rho",
    "training.sam_base",
    "training.ema.warmup",
    "training.ema.evaluate",
    "staging.match_dose",
    "staging.shape",
}
"""Fields that go only with certain others, or not with others."""


def changed(raw: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    result = copy.deepcopy(raw)
    *path, last = key.split(".")
    inner = result
    for part in path:
        inner = inner.setdefault(part, {})
    inner[last] = value
    return result


def shuffled(value: Any, seed: int) -> Any:
    if not isinstance(value, dict):
        return value
    keys = list(value)
    random.Random(seed).shuffle(keys)
    return {key: shuffled(value[key], seed) for key in keys}


def complaint(raw: Any) -> str:
    with pytest.raises(UserError) as caught:
        resolve.parse(raw)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_written_out_with_its_defaults_it_is_the_same_run() -> None:
    short = resolve.parse(SHORT)
    # FACTS: batch 128 and one-cycle; the crop and the flip are what is usual for the data set.
    assert short.model_dump(mode="json") == {
        "dataset": {
            "name": "fashion_mnist",
            "train_size": 2000,
            "train_fraction": None,
            "validation_fraction": 0.1,
            "validation_size": None,
            "split_seed": 0,
            "folds": None,
            "image_size": 28,
            "fit": None,
            "pixel_range": None,
            "left_out_classes": None,
            "targets": None,
            "domains": None,
            "target": None,
            "mean": None,
            "std": None,
            "source": None,
            "sound": None,
        },
        "task": None,
        "model": {
            "name": "small_cnn",
            "width": 16,
            "small_stem": False,
            "input_size": None,
            "drop_path": None,
            "source": None,
        },
        "augmentation": {
            "name": "cutmix",
            "prob": 1.0,
            "per_sample": False,
            "pairing": "permute",
            "alpha": 1.0,
            "placement": "clipped",
            "min_area": 0.0,
            "max_area": 1.0,
            "labels": "area",
            "axis": "both",
        },
        "staging": None,
        "streams": None,
        "teacher": None,
        "transfer": None,
        "training": {
            "epochs": 30,
            "batch_size": 128,
            "learning_rate": 0.1,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 0.0005,
            "optimiser": None,
            "sam_rho": None,
            "sam_base": None,
            "schedule": "one_cycle",
            "warmup": 0.25,
            "label_smoothing": 0.0,
            "loss": None,
            "bce_threshold": None,
            "ema": None,
            "swa": None,
            "class_weights": None,
            "sampler": None,
            "repeated_augmentation": None,
            "crop": None,
            "crop_scale": None,
            "crop_padding": 2,
            "flip": True,
            "amp": True,
            "channels_last": True,
            "devices": None,
            "gradient_noise": None,
            "validate_every": None,
        },
        "evaluation": {
            "batch_size": 500,
            "ece_bins": 15,
            "occlusion": {
                "shapes": ["centre", "patches"],
                "fractions": [0.1, 0.25, 0.5, 0.75],
                "images": None,
                "seed": 0,
            },
        },
        "seed": 0,
        "replicate": None,
    }
    long = resolve.parse(json.loads(json.dumps(short.model_dump(mode="json"))))
    assert long == short
    assert (long.run_key, long.cell_key) == (short.run_key, short.cell_key)


@pytest.mark.parametrize("left_out", [(), ("augmentation",), ("model", "training", "evaluation")])
def test_whole_sections_may_be_left_out(left_out: tuple[str, ...]) -> None:
    full = resolve.parse({"dataset": {"name": "digits"}, "augmentation": "none"})
    raw = {k: v for k, v in full.model_dump(mode="json").items() if k not in left_out}
    short = resolve.parse(raw)
    assert short == full and short.run_key == full.run_key
    assert resolve.parse({"dataset": {"name": "digits"}}) == full


@pytest.mark.parametrize(
    ("schedule", "dataset", "expected"),
    [
        ("one_cycle", "digits", (0.25, 0, False)),
        ("cosine", "cifar10", (0.0, 4, True)),
        ("cosine", "svhn", (0.0, 4, False)),
    ],
)
def test_defaults_that_depend(schedule: str, dataset: str, expected: tuple[Any, ...]) -> None:
    made = resolve.parse({"dataset": {"name": dataset}, "training": {"schedule": schedule}})
    assert (made.training.warmup, made.training.crop_padding, made.training.flip) == expected


def test_what_is_given_is_not_replaced_by_a_default() -> None:
    given = {"warmup": 0.0, "crop_padding": 0, "flip": False}
    made = resolve.parse({"dataset": {"name": "cifar10"}, "training": given})
    assert made.training.model_dump().items() >= given.items()


@given(seed=st.integers(0, 10_000))
def test_the_order_of_keys_does_not_matter(seed: int) -> None:
    full = resolve.parse(SHORT)
    again = resolve.parse(shuffled(full.model_dump(mode="json"), seed))
    assert again.run_key == full.run_key


def test_numbers_that_are_equal_are_the_same_run() -> None:
    one = {"dataset": {"name": "digits"}, "training": {"learning_rate": 1, "weight_decay": "1e-3"}}
    other = {"dataset": {"name": "digits"}, "training": {"learning_rate": 1.0}}
    other["training"]["weight_decay"] = 0.001
    one["augmentation"], other["augmentation"] = {"name": "mixup", "alpha": 1}, "mixup"
    assert resolve.parse(one).run_key == resolve.parse(other).run_key
    turned = changed(SHORT, "evaluation.occlusion.fractions", [0.75, 0.1, 0.5, 0.25])
    assert resolve.parse(turned).run_key == resolve.parse(SHORT).run_key


def test_keys_do_not_depend_on_the_process() -> None:
    code = (
        "import json, sys; from mixbench.experiments.config import resolve\n"
        "made = resolve.parse(json.loads(sys.argv[1])); print(made.run_key, made.cell_key)\n"
        "print('torch' in sys.modules)"
    )
    made = resolve.parse(SHORT)
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(SHORT)],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        )
        assert done.stdout.split() == [made.run_key, made.cell_key, "False"]


@pytest.mark.parametrize(("key", "value"), EVERY_FIELD)
def test_every_field_changes_the_run(key: str, value: Any) -> None:
    raw = changed(SHORT, "augmentation", {"name": "fmix"}) if key == "augmentation.name" else SHORT
    before, after = resolve.parse(SHORT), resolve.parse(changed(raw, key, value))
    assert after.run_key != before.run_key
    assert (after.cell_key == before.cell_key) == (key == "seed")


@pytest.mark.parametrize(("key", "value"), [("devices", 1), ("optimiser", "sgd"), ("loss", "ce")])
def test_what_unset_means(key: str, value: Any) -> None:
    one = resolve.parse(changed(SHORT, f"training.{key}", value))
    assert one.run_key == resolve.parse(SHORT).run_key


@pytest.mark.parametrize("devices", [64, 65])
def test_every_device_gets_two_images(devices: int) -> None:
    raw = changed(changed(SHORT, "training.batch_size", 128), "training.devices", devices)
    if devices == 64:
        assert resolve.parse(raw).training.devices == 64
        return
    with pytest.raises(UserError, match="batch_size: got 128, expected at least 130"):
        resolve.parse(raw)


@pytest.mark.parametrize(
    ("section", "value", "where"),
    [
        ("staging", {"phases": [{"to": "plateau 2"}]}, "staging: phase 1 waits for a plateau"),
        (
            "transfer",
            {"freeze": "all", "unfreeze": [{"at": "plateau 2", "down_to": 2}]},
            "transfer.unfreeze waits for a plateau",
        ),
    ],
)
def test_a_plateau_needs_every_epoch(section: str, value: Any, where: str) -> None:
    raw = changed(changed(SHORT, section, value), "training.validate_every", 2)
    with pytest.raises(UserError, match=f"training.validate_every: got 2, but {where}"):
        resolve.parse(raw)
    assert resolve.parse(changed(raw, "training.validate_every", 1))


def test_the_table_above_has_every_field() -> None:
    given = {key for key, _ in EVERY_FIELD} | NEED_OTHERS
    sections = {name: keys for name, keys in schema.section_keys().items() if keys}
    known = {f"{name}.{key}" for name, keys in sections.items() for key in keys}
    assert known - {"evaluation.occlusion"} == {
        key for key in given if not key.startswith("augmentation.") and key != "seed"
    }
    described = {item.name for item in augmentations.describe("cutmix").parameters}
    assert described <= {key.removeprefix("augmentation.") for key in given}


@pytest.mark.parametrize(
    ("key", "value", "others"),
    [
        ("dataset.train_fraction", 0.5, {"name": "digits"}),
        ("dataset.fit", "pad", {"name": "digits", "image_size": [16, 8]}),
        ("model.small_stem", True, {}),
        ("model.drop_path", 0.1, {}),
        ("training.bce_threshold", 0.2, {"loss": "bce"}),
        ("training.sam_rho", 0.1, {"optimiser": "sam"}),
        ("training.sam_base", "adamw", {"optimiser": "sam"}),
        ("training.ema.warmup", True, {"ema": {"decay": 0.9}}),
        ("training.ema.evaluate", "beside", {"ema": {"decay": 0.9}}),
        ("transfer.head", "keep", {"weights": "cell:0123456789abcdef"}),
        ("transfer.unfreeze", "gradual", {"freeze": 2}),
        ("transfer.mixing", "features", {"freeze": 2}),
        ("transfer.cache", False, {"freeze": 2}),
    ],
)
def test_fields_that_exclude_others(key: str, value: Any, others: Any) -> None:
    raw: dict[str, Any] = {"dataset": {"name": "digits"}, "model": {"name": "timm/resnet18"}}
    raw = changed(raw, key.partition(".")[0], {**raw.get(key.partition(".")[0], {}), **others})
    assert resolve.parse(changed(raw, key, value)).cell_key != resolve.parse(raw).cell_key


@given(
    alpha=st.floats(0.01, 10),
    rate=st.floats(1e-6, 10),
    epochs=st.integers(1, 500),
    seeds=st.lists(st.integers(0, 2**63 - 1), min_size=2, max_size=2, unique=True),
)
def test_what_is_stored_is_read_back_as_the_same_run(
    alpha: float, rate: float, epochs: int, seeds: list[int]
) -> None:
    raw = {
        "dataset": {"name": "digits"},
        "augmentation": {"name": "cutmix", "alpha": alpha},
        "training": {"learning_rate": rate, "epochs": epochs},
    }
    one, other = (resolve.parse({**raw, "seed": seed}) for seed in seeds)
    assert one.cell_key == other.cell_key and one.run_key != other.run_key
    assert resolve.parse(json.loads(json.dumps(one.model_dump(mode="json")))) == one


def test_a_folder_of_images_is_known_by_what_it_holds(tmp_path: Path) -> None:
    keys = []
    for place, colour in (("here", 0), ("there/else", 0), ("other", 255)):
        for name in ("cats", "dogs"):
            folder = tmp_path / place / name
            folder.mkdir(parents=True)
            # Another size of file for another content.
            side = 16 if colour else 8
            Image.new("RGB", (side, side), (colour, 9, 9)).save(folder / "a.png")
        raw = {"dataset": {"name": f"imagefolder:{tmp_path / place}"}}
        keys.append(resolve.parse(raw).run_key)
        assert resolve.parse(raw).dataset.name == f"imagefolder:{tmp_path / place}"
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("trainng", {}, "unknown section 'trainng'; did you mean 'training'? valid: dataset, "),
        ("training.epoch", 3, "unknown key of training 'epoch'; did you mean 'epochs'?"),
        ("evaluation.occlusion.fraction", [], "did you mean 'fractions'?"),
        (
            "dataset.name",
            "fashion-mnist",
            "unknown dataset 'fashion-mnist'; "
            "did you mean 'fashion_mnist'? valid: cifar10, cifar100, digits, ",
        ),
        ("model.name", "resnet-20", "unknown model 'resnet-20'; did you mean 'resnet20'? valid: "),
        ("augmentation.name", "cutmx", "unknown augmentation 'cutmx'; did you mean 'cutmix'?"),
        ("augmentation.alhpa", 1.0, "cutmix has no parameter 'alhpa'; did you mean 'alpha'?"),
        ("augmentation.1", 1.0, "cutmix has no parameter '1'"),
        ("augmentation", {"name": "cutmix", 1: 2}, "cutmix has no parameter '1'"),
        ("augmentation", {"alpha": 1.0}, "a name with parameters, such as {name: cutmix"),
        ("augmentation", 3, "such as none; got 3"),
        ("augmentation.alpha", 0, "cutmix.alpha: got 0, expected a number above 0"),
        ("augmentation.alpha", -0.2, "cutmix.alpha: got -0.2, expected a number above 0"),
        ("augmentation.alpha", "much", "cutmix.alpha: got 'much', expected a number above 0"),
        ("augmentation.alpha", float("nan"), "cutmix.alpha: got nan, expected a number above 0"),
        ("augmentation.alpha", float("inf"), "cutmix.alpha: got inf, expected a number above 0"),
        ("augmentation.alpha", True, "cutmix.alpha: got True, expected a number above 0"),
        ("augmentation.alpha", None, "cutmix.alpha: got None, expected a number above 0"),
        ("augmentation.prob", 1.5, "cutmix.prob: got 1.5, expected a number at least 0 and at"),
        ("augmentation.per_sample", 1, "cutmix.per_sample: got 1, expected true or false"),
        ("training.epochs", 0, "training.epochs: got 0, expected a number of at least 1"),
        ("training.epochs", 2.5, "training.epochs: got 2.5, expected a whole number"),
        ("training.epochs", "many", "training.epochs: got 'many', expected a whole number"),
        ("training.epochs", True, "training.epochs: a number or a name, not true"),
        ("training.learning_rate", 0, "training.learning_rate: got 0, expected a number above 0"),
        ("training.learning_rate", "fast", "got 'fast', expected a number"),
        ("training.learning_rate", float("nan"), "got nan, expected a finite number"),
        ("training.learning_rate", "inf", "expected a finite number"),
        ("training.learning_rate", False, "training.learning_rate: a number or a name, not false"),
        ("training.schedule", "cosin", "expected one of 'one_cycle' or 'cosine'"),
        ("training.nesterov", "maybe", "training.nesterov: got 'maybe', expected true or false"),
        ("training.momentum", 0, "nesterov needs a momentum above 0"),
        ("training.optimiser", "adam", "expected one of 'sgd', 'adamw', 'lamb' or 'sam'"),
        ("training.sam_rho", 0.1, "sam_rho: got 0.1, but it is for optimiser: sam, not sgd"),
        ("training", {"optimiser": "sam", "sam_base": "lamb"}, "sam_base: got 'lamb', expected o"),
        ("training", {"optimiser": "sam", "sam_rho": 0}, "sam_rho: got 0, expected a number above"),
        ("training.repeated_augmentation", 3, "got 3, expected a divisor of the batch_size 128,"),
        ("training.swa", {"form": 0.5}, "unknown key of training.swa 'form'; did you mean 'from'?"),
        ("training.swa", 1, "training.swa.from: got 1, expected a number below 1"),
        ("training.swa", "late", "training.swa: got 'late', expected a share of the training, or "),
        (
            "training.loss",
            "bcee",
            "training.loss: got 'bcee', expected one of 'ce', 'bce' or 'mse'",
        ),
        ("training.bce_threshold", 0.2, "bce_threshold: got 0.2, but it is for loss: bce, not ce"),
        (
            "training",
            {"loss": "bce", "bce_threshold": 1},
            "bce_threshold: got 1, expected a number",
        ),
        ("training.sampler", "even", "training.sampler: got 'even', expected one of 'balanced'"),
        ("training.class_weights", "even", "class_weights: got 'even', expected balanced, or a l"),
        ("training.class_weights", [1, 0], "class_weights: got [1, 0], expected balanced, or a l"),
        ("training.class_weights", [1, 2.5], "class_weights: got 2 numbers, expected 10, one for"),
        ("training", {"class_weights": "balanced", "sampler": "balanced"}, "leave one of the two"),
        (
            "training.gradient_noise",
            {"draws": 1},
            "gradient_noise.draws: got 1, expected a number of",
        ),
        (
            "training",
            {"gradient_noise": {}, "devices": 2},
            "gradient_noise: is measured on one dev",
        ),
        ("training.validate_every", 0, "training.validate_every: got 0, expected a number of at"),
        ("training.ema", 1, "training.ema.decay: got 1, expected a number below 1"),
        ("training.ema", "slow", "training.ema: got 'slow', expected a decay such as 0.999, or {d"),
        ("training.ema", True, "training.ema: a number or a name, not true"),
        ("training.ema", {"warmup": True}, "training.ema.decay: missing"),
        ("training.ema", {"decay": 0.9, "evalute": 1}, "key of training.ema 'evalute'; did you m"),
        ("training", {"optimiser": "adamw", "momentum": 0.8}, "momentum: is for optimiser sgd; "),
        ("training", {"optimiser": "adamw", "nesterov": False}, "nesterov: is for optimiser sgd"),
        ("training", {"optimiser": "lamb", "momentum": 0.8}, "leave it out with lamb"),
        (
            "training",
            {"optimiser": "sam", "sam_base": "adamw", "momentum": 0.8},
            "leave it out with adamw",
        ),
        ("model.input_size", 4, "model.input_size: got 4, expected a number of at least 8"),
        ("training", 5, "training: got 5, expected a mapping"),
        ("dataset", "digits", "dataset: got 'digits', expected a mapping"),
        ("dataset.train_fraction", 0.5, "give train_size or train_fraction, not both"),
        ("evaluation.occlusion.shapes", ["center"], "expected one of 'centre' or 'patches'"),
        ("evaluation.occlusion.fractions", [0.5, 0.5], "each value once"),
        ("evaluation.occlusion.fractions", [1.0], "expected a number below 1"),
        ("model.small_stem", True, "small_stem: small_cnn has a small stem already"),
        ("model.drop_path", 0.1, "drop_path: got 0.1, but small_cnn drops no paths; residual netw"),
        ("model.drop_path", 1, "model.drop_path: got 1, expected a number below 1"),
        ("seed", -1, "seed: got -1, expected a number of at least 0"),
        ("seed", True, "seed: a number or a name, not true"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_right(key: str, value: Any, expected: str) -> None:
    assert expected in complaint(changed(SHORT, key, value))


def test_pairing_within_classes_needs_two_images_of_a_class() -> None:
    nested = {"name": "choice", "methods": ["none", {"name": "mixup", "pairing": "same_class"}]}
    for size, method in ((12, {"name": "cutmix", "pairing": "same_class"}), (11, nested)):
        raw = changed(changed(SHORT, "augmentation", method), "dataset.train_size", size)
        text = complaint(changed(raw, "dataset.validation_fraction", 0.2))
        assert "pairing: same_class, expected more than one training image of a class" in text


def test_masks_where_the_data_set_has_none_are_refused() -> None:
    raw = changed(SHORT, "augmentation.labels", "objects")
    resolve.parse(raw)
    text = complaint(changed(raw, "dataset", {"name": "cifar10"}))
    assert "cutmix needs masks of the objects, and cifar10 has none; data sets with" in text


def test_unknown_timm_model() -> None:
    text = complaint(changed(SHORT, "model.name", "timm/resnet81"))
    assert "unknown timm model 'resnet81'; did you mean 'resnet" in text
    assert len(text) < 200
    text = complaint(changed(SHORT, "model", {"name": "timm/resnet18", "width": 8}))
    assert "timm models have a fixed width" in text


def test_all_problems_at_once() -> None:
    raw = {
        "dataset": {"name": "digits", "train_size": 0},
        "augmentation": "mixpu",
        "training": {"epochs": 0, "rate": 1},
        "modl": {},
    }
    text = complaint(raw)
    for part in ("dataset.train_size", "'mixup'", "training.epochs", "'rate'", "'model'"):
        assert part in text


@pytest.mark.parametrize("raw", [None, [], "cutmix", 3])
def test_not_a_mapping(raw: Any) -> None:
    assert "a run is a mapping of sections" in complaint(raw)


def test_missing_dataset() -> None:
    assert complaint({}) == "dataset: missing"


def test_it_is_frozen() -> None:
    made = resolve.parse(SHORT)
    with pytest.raises(ValueError, match="frozen"):
        made.seed = 3  # type: ignore[misc]
