"""`mixbench try`: a tiny folder from pictures to an answer, killed and continued; bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mixbench.experiments.cli import try_rounds
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


def test_a_folder_is_tried_killed_and_continued(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = striped(tmp_path / "stripes")
    order = ("try", str(folder), "--minutes", "30", "--workers", "1", "--device", "cpu")
    record = runs / "tries" / "try_stripes" / "try.json"
    with monkeypatch.context() as patch:
        patch.setattr(try_rounds, "run", lambda *_: 0)
        planned = running.mixbench_here(*order)
    assert planned.returncode == 0, planned.stderr
    assert "90 images of 3 classes" in planned.stdout and "plan: no mixing" in planned.stdout
    known = json.loads(record.read_text())
    assert known["fixed"]["dataset"]["folds"] == 5 and not known["plan"]["tuning_replicates"]
    assert (record.parent / "answer.txt").read_text().startswith("Can't tell yet; until then stay")
    assert 1e-4 < known["rate"] < 10 and known["plan"]["replicates"] > 1

    # A plan that is there is gone on with: here a very small one.
    tiny = {"epochs": 2, "methods": ["cutmix"], "replicates": 4}
    plan = {**tiny, "probs": [], "rates": [], "tuning_replicates": 0}
    record.write_text(json.dumps({**known, "plan": plan}))
    begun = running.start(*running.COMMAND, *order)
    results = "try_stripes/runs/*/result.json"
    running.wait_until(lambda: next(runs.glob(results), None), "a first result")
    begun.kill()
    begun.communicate()
    # Workers outlive the command, and end what is planned.
    running.wait_until(lambda: len([*runs.glob(results)]) >= 4, "the rest of the first round")
    before = {path: path.read_bytes() for path in runs.glob(results)}

    # The time is up: what is known becomes the answer.
    spent = {**json.loads(record.read_text()), "spent": 3600.0}
    record.write_text(json.dumps(spent))
    continued = running.mixbench_here(*order)
    assert "the 30 minutes are spent" in continued.stdout, continued.stderr
    assert continued.returncode == 0
    assert all(path.read_bytes() == content for path, content in before.items())
    after = json.loads(record.read_text())
    assert all(after[key] == spent[key] for key in ("rate", "plan", "costs", "fixed"))
    answer = (record.parent / "answer.txt").read_text()
    assert answer.splitlines()[0].startswith(("Use ", "Stay ", "Can't "))
    assert "18 test images" in answer or "of the test images" in answer
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
