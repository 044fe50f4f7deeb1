"""`mixbench try`: a tiny folder from pictures to an answer, killed and continued; bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import running
from tests.support.folders import fill


def striped(root: Path, images: int = 30) -> Path:
    """Grey pictures of 16 pixels: stripes along, across, or neither, with noise."""
    random = np.random.default_rng(0)
    waves = 127 + 100 * np.sin(np.arange(16))
    for name in ("along", "across", "noise"):
        (root / name).mkdir(parents=True)
        for number in range(images):
            pixels = random.normal(0, 20, (16, 16)) + 127
            if name != "noise":
                stripes = np.roll(waves, number)[None].repeat(16, 0) - 127
                pixels += stripes if name == "along" else stripes.T
            path = root / name / f"{number}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return root


def test_a_folder_is_tried_killed_and_continued(runs: Path, tmp_path: Path) -> None:
    folder = striped(tmp_path / "stripes")
    order = ("try", str(folder), "--minutes", "4", "--workers", "1", "--device", "cpu")
    begun = running.start(*running.COMMAND, *order)
    record = runs / "tries" / "try_stripes" / "try.json"
    done = "try_stripes/runs/*/result.json"
    running.wait_until(lambda: next(runs.glob(done), None), "a first result")
    begun.kill()
    begun.communicate()
    before = json.loads(record.read_text())
    assert before["plan"]["methods"] and before["rate"] > 0 and before["spent"] > 0
    results = {path: path.read_bytes() for path in runs.glob(done)}

    # Nearly all of the budget is spent: what is known becomes the answer.
    record.write_text(json.dumps({**before, "spent": 3600.0}))
    continued = running.mixbench(*order)
    assert "the 4 minutes are spent" in continued.stdout, continued.stderr
    assert continued.returncode in (0, 1)
    assert all(path.read_bytes() == content for path, content in results.items())
    after = json.loads(record.read_text())
    assert {key: after[key] for key in ("rate", "plan", "costs")} == {
        key: before[key] for key in ("rate", "plan", "costs")
    }
    answer = (record.parent / "answer.txt").read_text()
    assert answer.splitlines()[0].startswith(("Use ", "Stay ", "Can't "))
    assert "pixels" in answer and "learning rate" in answer
    sweep = SweepFolder.open("try_stripes")
    assert (sweep.path / "report" / "report.html").is_file()
    # The sweep is a normal one, and its YAML grows it.
    grown = running.mixbench_here("plan", str(record.parent / "try_stripes.yaml"))
    assert grown.returncode == 0 and "done" in grown.stdout


@pytest.mark.parametrize(
    ("classes", "images", "minutes", "expected"),
    [
        (("cat", "dog"), 3, "5", "class 'cat' has 3 images (and 1 more class), expected at least"),
        (("cat", "dog"), 5, "5", "too small to split: of 10 images"),
        (("cat", "dog"), 60, "0", "--minutes: got 0, expected more than 0"),
        (("cat", "dog"), 60, "0.001", "--minutes: got 0.001, but one run of 15 epochs takes about"),
        (("cat", "dog"), 60, "5 --network resnet21", "unknown model 'resnet21'"),
        (("cat", "dog"), 60, "5 --name ../x", "name: got '../x'"),
    ],
)
def test_bad_input_is_one_line(
    runs: Path,
    tmp_path: Path,
    classes: tuple[str, ...],
    images: int,
    minutes: str,
    expected: str,
) -> None:
    folder = fill(tmp_path / "pets", classes, images)
    said = running.mixbench_here("try", str(folder), "--minutes", *minutes.split())
    assert said.returncode == 2
    assert expected in said.stderr and said.stderr.count("\n") == 1
    assert not SweepFolder.names()
