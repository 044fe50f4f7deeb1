"""Evaluations as `mixbench evaluate` leaves them in run folders, made without a network."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support.written_sweeps import EFFECTS

EPSILONS = (2 / 255, 8 / 255)
CURVE = (1 / 255, 16 / 255, 1.0)
SHAPES = {"centre": 1.1, "square": 1.0, "patches": 0.8, "blobs": 0.9}
FILLS = {"zero": 1.0, "noise": 0.9}
PAIRS = (("centre", "mean"), ("centre", "image"), ("blobs", "mean"), ("blobs", "image"))
"""Shapes and fills with a metric, the gain being larger from one to the next."""
HOMES = {
    "mixup": {"shapes": [], "fills": ["image"]},
    "cutmix": {"shapes": ["centre"], "fills": ["image"]},
}


def write(run: PlannedRun, name: str, **content: Any) -> None:
    """evaluations/NAME.json of a run."""
    folder = run.folder.path / "evaluations"
    folder.mkdir(exist_ok=True)
    made = {
        "settings": {},
        "metrics": {},
        "curves": {},
        "seconds": 1.0,
        "provenance": {"finished": 1_790_000_100.0},
        **content,
    }
    (folder / f"{name}.json").write_text(json.dumps(made))


def measure(folder: SweepFolder, names: tuple[str, ...] = ()) -> None:
    """Plant all measurements (or those in `names`) into every finished run."""
    for run in folder.plan():
        if run.folder.result() is not None:
            for name, content in contents(run).items():
                if not names or name in names:
                    write(run, name, **content)


def contents(run: PlannedRun) -> dict[str, dict[str, Any]]:
    """Numbers that follow from the method and the seed: seeds shift all methods alike."""
    method, seed = run.config["augmentation"]["name"], run.config["seed"]
    gain, gap, loss = EFFECTS.get(method, (0.01, 0.03, 0.5))
    rng = np.random.default_rng([seed, int(run.run_key[:6], 16)])
    clean = 0.80 + gain + np.random.default_rng(seed).normal(0, 0.006)
    noise = rng.normal(0, 0.003, 8)
    fraction = np.asarray([0.0, 0.1, 0.25, 0.5, 0.75])
    attacked = {
        name: [clean, clean - slope, clean - 3 * slope]
        for name, slope in (("fgsm", 0.12 - gain), ("pgd", 0.15 - gain), ("squares", 0.1))
    }
    patched = {
        kind: [clean, clean - slope, clean - 2 * slope]
        for kind, slope in (("blank", 0.05), ("universal", 0.2 - gain), ("per_image", 0.35))
    }
    rising = [0.02 * severity for severity in range(1, 7)]
    corrupted = {
        name: [clean - slope * severity / 5 for severity in range(6)]
        for name, slope in {
            "mean": 0.3,
            "noise": 0.4 - 3 * gain,
            "blur": 0.2,
            "weather": 0.25,
            "digital": 0.35,
        }.items()
    }
    hidden = {
        shape: {
            fill: (clean - loss * harder * strength * fraction).tolist()
            for fill, strength in FILLS.items()
        }
        for shape, harder in SHAPES.items()
    }
    return {
        "calibration": {
            "metrics": {
                "calibration/ece": abs(gap) + abs(noise[0]),
                "calibration/gap": gap + noise[0],
                "calibration/ece_by_chance": 0.01 + abs(noise[1]),
                "calibration/temperature": 1 + 5 * gap + noise[2],
                "calibration/temperature_bounded": float(method == "mixup" and seed == 0),
                "calibration/scaled/ece": 0.012 + abs(noise[3]),
                "calibration/scaled/nll": 0.5 - gain + noise[4],
                "calibration/ks": 0.02,
            },
            "curves": {"bins": 15, "before": _diagram(gap), "after": _diagram(0.0)},
        },
        "overfitting": {
            "metrics": {
                "overfitting/train/accuracy": 0.99 - gain,
                "overfitting/train/nll": 0.05 + gain,
                "overfitting/gap": 0.19 - 2 * gain + noise[5],
                "overfitting/nll_gap": 0.5 - gain,
            },
        },
        "corruption": {
            "metrics": {
                "corruption/clean": clean,
                "corruption/fog": 0.5,
                "corruption/saturate": None,
                "corruption/retention": 0.8 + noise[6],
            }
            | {f"corruption/{name}": np.mean(curve[1:]) for name, curve in corrupted.items()},
            "curves": {
                "images": 1000,
                "severity": list(range(6)),
                "accuracy": corrupted,
                "calibration": {"debiased": rising, "scaled/debiased": rising[:1] * 6},
                "files": {
                    "set": "Fashion-C",
                    "images": 1000,
                    "severity": list(range(6)),
                    "accuracy": {"mean": corrupted["mean"]},
                    "calibration": {"debiased": rising},
                },
            },
        },
        "attack": {
            "metrics": {"attack/clean": clean}
            | {
                f"attack/{name}/{round(epsilon * 255)}-255": attacked[name][place + 1]
                for name in attacked
                for place, epsilon in enumerate(EPSILONS)
            },
            "curves": {
                "images": 1000,
                "epsilon": [0.0, *EPSILONS],
                "accuracy": attacked,
                "flat": 0.0,
                "masked": ["squares beats pgd at ε = 8/255"] if method == "mixup" else [],
                "curve": {"epsilon": [0.0, *CURVE], "accuracy": {"pgd": [clean, 0.7, 0.3, 0.0]}},
            },
        },
        "patch": {
            "metrics": {"patch/clean": clean}
            | {
                f"patch/{kind}/{share}": values[place]
                for kind, values in patched.items()
                for place, share in ((1, "0.1"), (2, "0.2"))
            },
            "curves": {"images": 300, "share": [0.0, 0.1, 0.2], "accuracy": patched},
        },
        "smoothness": {
            "metrics": {
                "smoothness/loss_gradient": 1.2 + 10 * gain + noise[0],
                "smoothness/margin_gradient": 14.0 - 100 * gain,
                "smoothness/distance": 0.4 + gain,
                "smoothness/flip/0.02": 0.05 - gain,
                "smoothness/flip/0.05": 0.11 - gain + noise[1],
                "smoothness/entropy": 0.3,
                "smoothness/margin": 0.7,
            },
        },
        "bias_variance": {
            "metrics": {
                f"bias_variance/{loss}/{part}": value + gain + noise[2]
                for loss, part, value in (
                    ("zero_one", "bias", 0.13),
                    ("zero_one", "variance", 0.07),
                    ("zero_one", "net_variance", 0.03),
                    ("log", "bias", 0.4),
                    ("log", "variance", 0.1),
                    ("brier", "bias", 0.2),
                    ("brier", "variance", 0.04),
                )
            },
            "curves": {"images": 1000, "runs": 5, "standard_error": {"zero_one/bias": 0.003}},
        },
        "boundary": {
            "metrics": {
                "boundary/line/place": 0.4 + gain,
                "boundary/line/steepness": 12.0 - 50 * gain + noise[0],
                "boundary/line/entropy": 1.1 + gain,
                "boundary/line/changes": 1.7 - gain,
                "boundary/line/third": 0.5 - gain,
                "boundary/path/distance": 0.3 + gain + noise[1],
                "boundary/path/steepness": 11.0 - 50 * gain,
                "boundary/path/entropy": 0.8,
            },
            "curves": {
                "images": 500,
                "place": [0.0, 0.5, 1.0],
                "own": [1.0, 0.4, 0.0],
                "other": [0.0, 0.4, 1.0],
                "third": [0.0, 0.2, 0.0],
                "standard_error": {"line/place": 0.01, "line/third": 0.02},
            },
        },
        "shift": {
            "metrics": {
                "shift/auroc": 0.8 + 3 * gain + noise[2],
                "shift/fpr95": 0.6 - gain,
                "shift/confidence": 0.55 + gap,
                "shift/own_confidence": 0.8 + gap,
            },
            "curves": {"dataset": "digits", "images": 359, "resized": True},
        },
        "localisation": {
            "metrics": {
                f"localisation/{name}{end}": value + (0 if end else gain)
                for name, value in (("pointing", 0.6), ("iou", 0.4), ("energy", 0.5))
                for end, value in (("", value), ("/chance", 0.25))
            }
            | {
                "localisation/boxes/pointing": 0.7 + gain + noise[7],
                "localisation/boxes/pointing/chance": 0.31,
            },
            "curves": {
                "images": 500,
                "grid": 2,
                "whole": method != "mixup",
                "map": [7, 7] if method == "mixup" else [14, 14],
                "boxes": {"images": 12, "trained": 3, "outside": 1},
            },
        },
        "gradient_noise": {
            "metrics": {
                "gradient_noise/mix": 0.3 + gain + noise[4],
                "gradient_noise/batch": 0.6 - gain,
                "gradient_noise/signal": 0.1 - noise[4],
                "gradient_noise/norm": 0.8 + gain + noise[5],
            },
            "curves": {"batches": 8, "draws": 8, "batch_size": 128},
        },
        "object_share": {
            "metrics": {
                "object_share/clean": clean,
                "object_share/0.25": 0.5,
                "object_share/1": 0.3 - gain,
                "object_share/own/difference": gain + noise[3],
                "object_share/label_error": None if method == "none" else 0.098,
                "object_share/ghost_labels": None if method == "none" else 0.047,
            },
            "curves": {
                "images": 1864,
                "left_out": {"Sandal": 111, "Trouser": 3},
                "share": [0.25, 1.0],
                "accuracy": {"framed": [0.5, 0.3 - gain]},
            },
        },
        "hiding": {
            "metrics": {
                "hiding/clean": clean,
                "hiding/area": 0.5 + gain,
                "hiding/rectangles/area": 0.5 + 2 * gain,
                "hiding/others/area": 0.5,
                "hiding/favour": 2 * gain + noise[3],
                "hiding/away/area": 0.45,
                "hiding/iocclusion": 0.4,
            }
            | {
                f"hiding/{shape}/{fill}/area": 0.4 + rank * gain + noise[rank]
                for rank, (shape, fill) in enumerate(PAIRS)
            },
            "curves": {
                "images": 1000,
                "home": HOMES.get(method, {"shapes": [], "fills": []}),
                "accuracy": hidden,
                "fraction": {shape: fraction.tolist() for shape in SHAPES},
            },
        },
    }


def _diagram(gap: float) -> dict[str, Any]:
    """Reliability data of 15 bins; the lowest are empty."""
    middle = (np.arange(15) + 0.5) / 15
    count = np.where(middle < 0.2, 0, (1000 * middle**3).astype(int))
    return {
        "width": {
            "count": count.tolist(),
            "confidence": [m if n else None for m, n in zip(middle.tolist(), count, strict=True)],
            "accuracy": [
                float(np.clip(m - gap, 0, 1)) if n else None
                for m, n in zip(middle, count, strict=True)
            ],
        }
    }
