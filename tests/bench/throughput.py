"""Runs per hour of a sweep, beside a plain script and beside the compute floor.

    python -m tests.bench.throughput

Six methods, two seeds, the demo's network and training. All three are measured in this call, the
plain script in its quicker form (DataLoader workers or none), so that the ratios hold on a noisy
machine. Start-up is counted for the sweep and for the script, not for the floor.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from mixbench.experiments.store.provenance import device_name
from mixbench.slurm.local import cores

METHODS = ("none", "mixup", "cutmix", "cutout", "random_erasing", "ricap")
SEEDS = (0, 1)
TRAIN, VALIDATION, TEST = 1800, 200, 10_000
WIDTH, BATCH, RATE = 12, 128, 0.5


def main() -> int:
    """Measure and print; exit status 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=45)
    options = parser.parse_args()
    import torch

    runs = len(METHODS) * len(SEEDS)
    workers = cores()
    machine = f"{device_name(torch.device('cpu'))}, {workers} cores, torch {torch.__version__}"
    print(f"{machine}, Python {platform.python_version()}; {runs} runs of {options.epochs} epochs")
    common = [
        "--epochs",
        options.epochs,
        "--width",
        WIDTH,
        "--images",
        TRAIN,
        "--batch-size",
        BATCH,
    ]
    with tempfile.TemporaryDirectory() as scratch:
        training, evaluation = _floor(common, options.epochs, workers)
        sweep = _sweep(Path(scratch), options.epochs)
        script, loaders = _script(Path(scratch), common)
    floor = (training + evaluation) * runs / workers
    rows = (
        ("mixbench sweep", sweep),
        (f"plain script, one process a run ({loaders} loader workers)", script),
        ("compute floor: forward and backward passes alone", floor),
        ("  of which training", training * runs / workers),
    )
    for name, seconds in rows:
        print(f"{name:64} {seconds:7.1f} s  {3600 * runs / seconds:7.0f} runs/h")
    print(f"sweep over script: {script / sweep:.2f}x (target: at least 2)")
    print(f"sweep over floor:  {sweep / floor:.2f}x (target: at most 1.25)")
    return 0 if script / sweep >= 2 and sweep / floor <= 1.25 else 1


def _floor(common: list[object], epochs: int, workers: int) -> tuple[float, float]:
    """Seconds of one run's training passes and evaluation passes, `workers` at a time."""
    # Per run: validation after every epoch, then train, validation and test once.
    forwards = epochs * VALIDATION + TRAIN + VALIDATION + TEST
    command = [sys.executable, "-m", "tests.bench.floor", *common, "--forwards", forwards]
    processes = [
        subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, env=_env(1))
        for _ in range(workers)
    ]
    found = [tuple(map(float, process.communicate()[0].split())) for process in processes]
    return (sum(t for t, _ in found) / workers, sum(e for _, e in found) / workers)


def _sweep(scratch: Path, epochs: int) -> float:
    """Seconds of `mixbench sweep`, from the command to its end, MLflow and report left out."""
    spec = {
        "name": "bench",
        "fixed": {
            "dataset": {"name": "fashion_mnist", "train_size": TRAIN + VALIDATION},
            "model": {"name": "small_cnn", "width": WIDTH},
            "training": {
                "epochs": epochs,
                "batch_size": BATCH,
                "learning_rate": RATE,
                "crop_padding": 0,
                "flip": False,
            },
            # The script measures the test accuracy alone.
            "evaluation": {"occlusion": {"shapes": []}},
        },
        "grid": {
            "augmentation": [
                {"name": name, **({"size": 14} if name == "cutout" else {})} for name in METHODS
            ]
        },
        "seeds": list(SEEDS),
    }
    path = scratch / "bench.yaml"
    path.write_text(yaml.safe_dump(spec))
    command = [
        sys.executable,
        "-m",
        "mixbench.experiments.cli",
        "sweep",
        str(path),
        "--device",
        "cpu",
        "--no-track",
        "--no-report",
    ]
    return _seconds(command, {**os.environ, "MIXBENCH_RUNS": str(scratch / "runs")})


def _script(scratch: Path, common: list[object]) -> tuple[float, int]:
    """Seconds of the script over all runs, and the loader workers of its quicker form."""
    folder = _torchvision_folder(scratch)

    def command(method: str, seed: int, loaders: int) -> list[str]:
        return list(
            map(
                str,
                [
                    sys.executable,
                    "-m",
                    "tests.bench.plain_script",
                    folder,
                    method,
                    seed,
                    *common,
                    "--learning-rate",
                    RATE,
                    "--workers",
                    loaders,
                ],
            )
        )

    tried = {n: _seconds(command("none", 0, n), _env()) for n in (0, cores())}
    loaders = min(tried, key=lambda n: tried[n])
    total = 0.0
    for method in METHODS:
        for seed in SEEDS:
            total += _seconds(command(method, seed, loaders), _env())
    return total, loaders


def _torchvision_folder(scratch: Path) -> Path:
    """Fashion-MNIST where torchvision's class looks for it."""
    from mixbench.experiments.data import fetch

    raw = scratch / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    source = Path(fetch.ensure("fashion_mnist"))
    import gzip

    for file in source.iterdir():
        content = file.read_bytes()
        if file.suffix == ".gz":
            content = gzip.decompress(content)
        (raw / file.name.removesuffix(".gz")).write_bytes(content)
    return scratch


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - started


def _env(threads: int | None = None) -> dict[str, str]:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    return environment if threads is None else {**environment, "OMP_NUM_THREADS": str(threads)}


if __name__ == "__main__":
    sys.exit(main())
