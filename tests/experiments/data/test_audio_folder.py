"""Folders of clips: the layouts of ESC-50 and Speech Commands, and folders of one's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mixbench.experiments.config import audio_folder, datasets
from mixbench.experiments.config.resolve import parse
from mixbench.experiments.data.load import load
from mixbench.experiments.errors import UserError

soundfile = pytest.importorskip("soundfile")


def clip(path: Path, tone: int = 0) -> None:
    """A tone of a fifth of a second that belongs to its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    moments = np.arange(3_200) / 16_000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * (300 + 150 * tone) * moments), 16_000)


def esc50(root: Path) -> Path:
    """Two classes and three folds, two clips each."""
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for number in range(12):
        name = f"{number}.wav"
        clip(root / "audio" / name, number)
        category, fold = ("dog", "rain")[number % 2], 1 + number // 4
        lines.append(f"{name},{fold},{number % 2},{category},False,x,A")
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return root


def speech_commands(root: Path) -> Path:
    for word, first in (("yes", 0), ("no", 5)):
        for number in range(5):
            clip(root / word / f"{number}.wav", first + number)
    clip(root / "_background_noise_" / "pink.wav")
    (root / "testing_list.txt").write_text("yes/3.wav\nno/3.wav\n")
    (root / "validation_list.txt").write_text("yes/4.wav\nno/4.wav\n")
    return root


def sizes(root: Path, **settings: object) -> list[list[int]]:
    """How many clips of each class the three splits have."""
    section = {"name": f"audiofolder:{root}", "image_size": [8, 16], **settings}
    data = load(parse({"dataset": section}).dataset)
    return [np.bincount(part.labels).tolist() for part in (data.train, data.validation, data.test)]


def test_folds_of_esc50_test_in_turn(tmp_path: Path) -> None:
    root = esc50(tmp_path)
    facts = datasets.info(f"audiofolder:{root}")
    assert (facts.classes, facts.train, facts.test, facts.size) == (2, 8, 4, (48, 320))
    seen = []
    for replicate in range(3):
        run = {"folds": 3, "split_seed": replicate, "image_size": [8, 16], "validation_size": 2}
        section = {"name": f"audiofolder:{root}", **run}
        data = load(parse({"dataset": section, "replicate": replicate}).dataset)
        assert len(data.test.labels) == 4 and len(data.train.labels) == 6
        seen += [image.numpy().tobytes() for images, _ in data.test.batches(9) for image in images]
    assert len(set(seen)) == 12  # each clip tests once
    assert sizes(root, validation_size=2)[2] == [2, 2]
    with pytest.raises(UserError, match="got 5, expected 3, the folds that it has"):
        sizes(root, folds=5)


def test_speech_commands_lists_say_what_validates_and_tests(tmp_path: Path) -> None:
    root = speech_commands(tmp_path)
    assert sizes(root) == [[3, 3], [1, 1], [1, 1]]
    section = {"name": f"audiofolder:{root}", "image_size": [8, 16], "sound": "waveform"}
    waves = load(parse({"dataset": section}).dataset)
    assert waves.shape == (1, 250, 16) and (waves.mean, waves.std) == (0.5, 0.5)
    assert np.bincount(waves.train.labels).tolist() == [3, 3]
    assert audio_folder.open_audio_folder(str(root)).classes == ("no", "yes")
    with pytest.raises(UserError, match=r"got 5, expected none, as it has no folds"):
        sizes(root, folds=5)


def test_what_cannot_be_decoded_is_left_out_and_counted(tmp_path: Path) -> None:
    root = speech_commands(tmp_path)
    name = f"audiofolder:{root}"
    (root / "yes" / "0.wav").write_bytes(b"no sound")
    soundfile.write(root / "no" / "4.wav", np.zeros(3_200), 16_000)
    data = load(parse({"dataset": {"name": name, "image_size": [8, 16]}}).dataset)
    assert np.bincount(data.train.labels).tolist() == [3, 2]
    assert data.validation.labels.tolist() == [1]
    reasons = {Path(path).name: why for path, why in data.skipped.items()}
    assert reasons["0.wav"].startswith("can't be decoded") and reasons["4.wav"] == "is silent"
    for number in (1, 2):
        (root / "yes" / f"{number}.wav").write_bytes(b"no sound")
    with pytest.raises(UserError, match="no clip of class 'yes' to train on can be decoded"):
        load(parse({"dataset": {"name": name, "image_size": [9, 16]}}).dataset)


def test_folders_of_ones_own(tmp_path: Path) -> None:
    for number in range(10):
        clip(tmp_path / "plain" / "ab"[number % 2] / f"{number}.flac", number)
        split = "test" if number > 7 else "train"
        clip(tmp_path / "split" / split / "ab"[number % 2] / f"{number}.ogg", number)
    assert sizes(tmp_path / "plain", validation_size=2) == [[3, 3], [1, 1], [1, 1]]
    assert sizes(tmp_path / "split", validation_size=2) == [[3, 3], [1, 1], [1, 1]]
    same, other = (datasets.identity(f"audiofolder:{tmp_path / n}") for n in ("plain", "split"))
    assert same != other
    (tmp_path / "plain").rename(tmp_path / "elsewhere")
    assert datasets.identity(f"audiofolder:{tmp_path / 'elsewhere'}") == same


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: esc50(root) / "audio" / "3.wav", "has no audio/3.wav, which meta/esc50.csv"),
        (lambda root: speech_commands(root) / "no" / "3.wav", "no/3.wav, which testing_list.txt"),
        (lambda root: speech_commands(root) / "absent", "is not a folder"),
    ],
)
def test_what_lacks_is_named(tmp_path: Path, spoil: Callable[[Path], Path], message: str) -> None:
    path = spoil(tmp_path)
    name = f"audiofolder:{tmp_path if path.exists() else path}"
    path.unlink(missing_ok=True)
    with pytest.raises(UserError, match=message):
        parse({"dataset": {"name": name}})


def test_odd_folders_are_refused(tmp_path: Path) -> None:
    root = speech_commands(tmp_path)
    (root / "validation_list.txt").write_text("yes/3.wav\n")
    with pytest.raises(UserError, match=r"yes/3\.wav is both in testing_list.txt and validation_"):
        audio_folder.open_audio_folder(str(root))
    (root / "testing_list.txt").unlink()
    for path in (root / "no").iterdir():
        path.unlink()
    audio_folder.open_audio_folder.cache_clear()
    with pytest.raises(UserError, match=r"has 1 classes with clips .*expected at least 2"):
        audio_folder.open_audio_folder(str(root))
