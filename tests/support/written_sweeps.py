"""Sweep folders as a worker leaves them, made without training: correlated seeds, real shapes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mixbench.experiments.store.sweep_folder import SweepFolder

METHODS: tuple[dict[str, Any], ...] = (
    {"name": "none", "prob": 1.0},
    {"name": "mixup", "prob": 1.0, "per_sample": False, "alpha": 1.0},
    {"name": "cutmix", "prob": 1.0, "per_sample": False, "alpha": 1.0, "placement": "clipped"},
    {"name": "cutout", "prob": 1.0, "size": 14},
    {"name": "random_erasing", "prob": 0.5, "fill": "mean"},
    {"name": "ricap", "prob": 1.0, "beta": 0.3},
    {"name": "fmix", "prob": 1.0, "alpha": 1.0, "spectrum": "isotropic"},
)
# accuracy gained, overconfidence, accuracy lost per unit of occlusion
EFFECTS = {
    "none": (0.0, 0.10, 0.62),
    "mixup": (0.012, -0.04, 0.60),
    "cutmix": (0.028, 0.01, 0.42),
    "cutout": (0.014, 0.06, 0.36),
    "random_erasing": (0.003, 0.08, 0.40),
    "ricap": (0.020, -0.02, 0.47),
    "fmix": (0.017, 0.02, 0.50),
}
CLASSES = [
    "T-shirt",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]
FRACTIONS = (0.0, 0.102, 0.25, 0.5, 0.75)


def config(augmentation: Mapping[str, Any], seed: int, **changes: Any) -> dict[str, Any]:
    """A resolved configuration; changes by dotted key with __ for the dot."""
    resolved: dict[str, Any] = {
        "dataset": {
            "name": "fashion_mnist",
            "train_size": 2000,
            "train_fraction": None,
            "validation_fraction": 0.1,
            "split_seed": 0,
            "image_size": 28,
        },
        "model": {"name": "small_cnn", "width": None, "small_stem": False},
        "augmentation": dict(augmentation),
        "training": {
            "epochs": 30,
            "batch_size": 128,
            "learning_rate": 0.1,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 5e-4,
            "schedule": "one_cycle",
            "warmup": 0.25,
            "label_smoothing": 0.0,
            "crop_padding": 2,
            "flip": True,
            "amp": True,
            "channels_last": True,
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
        "seed": seed,
    }
    for key, value in changes.items():
        section = resolved
        *path, last = key.split("__")
        for part in path:
            section = section[part]
        section[last] = value
    return resolved


def keys(run_config: Mapping[str, Any]) -> tuple[str, str]:
    """A run key and a cell key that have the properties of the real ones."""
    cell = {key: value for key, value in run_config.items() if key != "seed"}
    return _digest(run_config), _digest(cell)


def result(run_config: Mapping[str, Any], images: int = 400) -> tuple[dict[str, Any], np.ndarray]:
    """A result.json and its (N, K) logits; a seed shifts all methods alike."""
    name, seed = run_config["augmentation"]["name"], run_config["seed"]
    gain, gap, loss = EFFECTS.get(name, (0.01, 0.03, 0.5))
    gain *= run_config["augmentation"].get("alpha", 1.0)
    rng = np.random.default_rng([seed, int(keys(run_config)[1][:6], 16)])
    accuracy = 0.802 + gain + np.random.default_rng(seed).normal(0, 0.006) + rng.normal(0, 0.003)
    labels = rng.integers(0, 10, images)
    confidence = np.clip(rng.beta(4, 1, images) * 0.85 + 0.15, 0.15, 0.999)
    chance = np.clip(confidence - gap, 0, 1) * accuracy / np.mean(np.clip(confidence - gap, 0, 1))
    is_right = rng.random(images) < np.clip(chance, 0, 1)
    predicted = np.where(is_right, labels, (labels + 1) % 10)
    others = (1 - confidence) / 9
    logits = np.repeat(np.log(others)[:, None], 10, axis=1)
    logits[np.arange(images), predicted] = np.log(confidence)
    edges = np.linspace(0, 1, 16)
    place = np.clip(np.ceil(confidence * 15).astype(int) - 1, 0, 14)
    count = np.bincount(place, minlength=15)
    mean = [np.mean(confidence[place == b]) if count[b] else None for b in range(15)]
    right = [np.mean(is_right[place == b]) if count[b] else None for b in range(15)]
    ece = sum(n / images * abs(a - c) for n, a, c in zip(count, right, mean, strict=True) if n)
    curves: dict[str, Any] = {}
    metrics: dict[str, float | None] = {
        "test/accuracy": accuracy,
        "test/nll": 0.55 + abs(gap) * 2 + rng.normal(0, 0.01),
        "test/brier": 0.27 + abs(gap) * 0.4 + rng.normal(0, 0.004),
        "test/ece": ece,
        "test/gap": float(np.mean(confidence) - np.mean(is_right)),
        "train/accuracy": 0.995 - gain * 2 + rng.normal(0, 0.002),
        "train/nll": 0.05,
        "validation/accuracy": accuracy - 0.004,
        "validation/nll": 0.6,
        "best/epoch": 27.0,
        "best/validation_accuracy": accuracy + 0.003,
    }
    for shape, factor in (("centre", 1.15), ("patches", 0.9)):
        noise = rng.normal(0, 0.006, len(FRACTIONS))
        curve = accuracy - loss * factor * np.asarray(FRACTIONS) ** 1.3 + noise
        curve[0] = accuracy
        curves[shape] = {"fraction": list(FRACTIONS), "accuracy": curve.tolist()}
        for fraction, value in zip((0.1, 0.25, 0.5, 0.75), curve[1:], strict=True):
            metrics[f"occlusion/{shape}/{fraction}"] = float(value)
            metrics[f"occlusion/{shape}/retention/{fraction}"] = float(value / accuracy)
        metrics[f"occlusion/{shape}/area"] = float(np.trapezoid(curve, FRACTIONS) / FRACTIONS[-1])
    run_key, cell_key = keys(run_config)
    started = 1_790_000_000.0 + 40 * seed
    found = {
        "schema": 1,
        "run_key": run_key,
        "cell_key": cell_key,
        "seed": seed,
        "metrics": metrics,
        "curves": {
            "occlusion": curves,
            "reliability": {
                "edges": edges.tolist(),
                "count": count.tolist(),
                "confidence": mean,
                "accuracy": right,
            },
        },
        "dataset": {
            "name": run_config["dataset"]["name"],
            "train": 1800,
            "validation": 200,
            "test": 10000,
            "classes": CLASSES,
            "digest": "sha256:0123456789abcdef",
            "source": "/usr/share/datasets/fashion-mnist",
        },
        "provenance": {
            "device": "cpu: AMD EPYC 7B13",
            "host": "node7",
            "threads": 1,
            "python": "3.11.9",
            "torch": "2.9.1",
            "mixbench": "0.1.0",
            "commit": "3f2c1ab",
            "started": started,
            "finished": started + 31,
        },
        "timing": {
            "train_seconds": 24.1,
            "evaluate_seconds": 3.9,
            "setup_seconds": 1.2,
            "images_per_second": 2250.0,
        },
    }
    return found, logits.astype(np.float32)


def mixed_strip(path: Path, augmentation: Mapping[str, Any], size: int = 28) -> None:
    """A strip of 8 images, 2 pixels apart, that differs between methods."""
    rng = np.random.default_rng(0)
    strip = np.full((size, 8 * size + 7 * 2), 255, np.uint8)
    grid = np.indices((size, size)).sum(0)
    for place in range(8):
        image = (127 + 120 * np.sin(grid / (2 + place) + place)).astype(np.uint8)
        top, left = rng.integers(0, size // 2, 2)
        if augmentation["name"] in ("cutmix", "fmix", "ricap"):
            image[top : top + 13, left : left + 13] = 255 - image[top : top + 13, left : left + 13]
        elif augmentation["name"] == "mixup":
            image = (image // 2 + image[::-1] // 2).astype(np.uint8)
        elif augmentation["name"] != "none":
            image[top : top + 13, left : left + 13] = 0
        strip[:, place * (size + 2) : place * (size + 2) + size] = image
    Image.fromarray(strip).save(path)


def write_sweep(
    root: Path,
    name: str,
    runs: Iterable[Mapping[str, Any]],
    *,
    description: str = "Which mixing method helps a small CNN on little data?",
    spec: Mapping[str, Any] | None = None,
    failed: Mapping[str, str] | None = None,
    waiting: Callable[[Mapping[str, Any]], bool] = lambda _: False,
) -> SweepFolder:
    """A sweep folder. failed: run_key -> error; waiting: which runs nobody has begun."""
    folder = root / name
    (folder / "runs").mkdir(parents=True)
    runs = list(runs)
    plan = []
    for run in runs:
        run_key, cell_key = keys(run)
        plan.append(json.dumps({"run_key": run_key, "cell_key": cell_key, "config": run}))
        if waiting(run):
            continue
        path = folder / "runs" / run_key
        path.mkdir()
        owned = {"schema": 1, "run_key": run_key, "cell_key": cell_key, "config": run}
        (path / "config.json").write_text(json.dumps(owned))
        mixed_strip(path / "mixed.png", run["augmentation"])
        error = (failed or {}).get(run_key)
        if error is not None:
            failure = {"error": error, "traceback": "...", "time": time.time(), "attempt": 1}
            (path / "failure.json").write_text(json.dumps(failure))
            continue
        found, logits = result(run)
        labels = np.zeros(len(logits), np.int64)
        np.savez(path / "predictions.npz", logits=logits[:20], labels=labels[:20])
        row = {"epoch": 30, "step": 450, "time": time.time(), "train/loss": 0.4}
        (path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        (path / "result.json").write_text(json.dumps(found))
    (folder / "plan.jsonl").write_text("".join(line + "\n" for line in plan))
    header = {
        "schema": 1,
        "name": name,
        "description": description,
        "created": time.time(),
        "spec": dict(spec or {"name": name, "seeds": [0, 1, 2, 3, 4]}),
        "commit": "3f2c1ab",
    }
    (folder / "sweep.json").write_text(json.dumps(header))
    return SweepFolder(folder)


def grid(
    methods: Sequence[Mapping[str, Any]] = METHODS, seeds: Iterable[int] = range(5), **changes: Any
) -> list[dict[str, Any]]:
    """All methods with all seeds, cell by cell."""
    seeds = list(seeds)
    return [config(method, seed, **changes) for method in methods for seed in seeds]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
