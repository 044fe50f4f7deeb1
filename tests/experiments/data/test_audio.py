"""Sound as pictures: tones where they belong, loudness and recording gone, broken clips skipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mixbench import Blend
from mixbench.experiments.config.resolve import parse
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.audio import clips, log_mel
from mixbench.experiments.data.audio.front_end import DECIBELS, LogMel
from mixbench.experiments.data.crops import normalise
from mixbench.experiments.data.sets import klettres
from mixbench.experiments.errors import UserError

soundfile = pytest.importorskip("soundfile")


def chirp(seconds: float, *, rate: int = 16_000, start: float = 300, end: float = 3_000):
    """A tone that rises from one frequency to another."""
    moment = np.arange(round(seconds * rate)) / rate
    return 0.3 * np.sin(2 * np.pi * (start + (end - start) * moment / (2 * seconds)) * moment)


def test_a_tone_is_at_its_moment_and_its_band() -> None:
    tone = chirp(1.0)
    grey = log_mel.picture(tone, 16_000, 48, 64)
    assert grey.shape == (48, 64) and grey.dtype == np.uint8
    row = grey.argmax(axis=0)  # high bands on top
    assert row[2] > row[32] > row[60]
    edges = 700 * (
        10 ** (np.linspace(*2595 * np.log10(1 + np.array([50, 8000]) / 700), 50) / 2595) - 1
    )
    for frame in (8, 32, 56):
        frequency = 300 + 2_700 * (frame + 0.5) / 64
        assert abs(edges[48 - row[frame]] - frequency) < 150


def test_loudness_rate_silence_around_and_colour_make_no_difference() -> None:
    noise = np.random.default_rng(0).normal(size=12_000) * np.linspace(0.3, 1, 12_000)
    own = log_mel.picture(noise, 16_000, 48, 64).astype(int)
    assert (own[:, 48:] == 128).all() and abs(own[:, :48].mean() - 128) < 0.5
    assert np.abs(own[:, :48].mean(axis=1) - 128).max() < 1.0  # the mean of every band
    around = np.concatenate([np.zeros(500), 0.01 * noise, np.zeros(5_000)])
    assert np.abs(log_mel.picture(around, 16_000, 48, 64) - own).max() <= 1
    from scipy.signal import resample_poly

    double = log_mel.picture(resample_poly(noise, 2, 1), 32_000, 48, 64)
    assert np.abs(double[8:, 1:47].astype(int) - own[8:, 1:47]).mean() < 2


@pytest.mark.parametrize(
    ("signal", "message"),
    [(np.zeros(4_000), "silent"), (np.zeros(0), "silent"), (np.full(9, np.nan), "finite")],
)
def test_a_clip_without_sound_has_no_picture(signal: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_mel.picture(signal, 16_000, 48, 64)


def test_klettres_is_divided_by_the_split_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(klettres, "CLIPS", {"de": 18, "fr": 17})
    monkeypatch.setenv("MIXBENCH_DATA", str(tmp_path / "data"))
    root = tmp_path / "klettres"
    for language, count in klettres.CLIPS.items():
        (root / language / "alpha").mkdir(parents=True)
        for index in range(count):
            tone = chirp(0.2, start=200 + 40 * index, end=1_000 * len(language))
            soundfile.write(root / language / "alpha" / f"{index:02}.ogg", tone, 16_000)
    (root / "de" / "alpha" / "03.ogg").write_bytes(b"no sound")
    read = klettres.DATASET.read_configured
    first = read(str(root), DatasetConfig(name="klettres", split_seed=0))
    assert np.bincount(first.train_labels).tolist() == [15, 15]
    assert np.bincount(first.test_labels).tolist() == [2, 2]
    assert first.train_images.shape == (30, 1, 48, 64)
    ((path, why),) = first.skipped.items()
    assert path.endswith("de/alpha/03.ogg") and why.startswith("can't be decoded")
    # From the data folder, and nothing lost; another seed tests with other clips.
    monkeypatch.setattr(clips, "_picture", lambda *_, **__: pytest.fail("was not kept"))
    other = read(str(root), DatasetConfig(name="klettres", split_seed=1))
    assert not np.array_equal(first.test_images, other.test_images)
    both = [np.concatenate([part.train_images, part.test_images]) for part in (first, other)]
    assert sorted(map(bytes, both[0])) == sorted(map(bytes, both[1]))
    (root / "fr" / "alpha" / "00.ogg").unlink()
    with pytest.raises(UserError, match=r"fr has 16 clips .* expected the 17"):
        klettres.DATASET.verify(str(root))


def spectrogram_of(waves: torch.Tensor) -> np.ndarray:
    """What the network gets of images (B,1,HOP,T) of waveforms, in the grey values of pictures."""
    half = torch.full((1,), 0.5)
    shown = LogMel(48).spectrograms(normalise(waves, half, half))
    return (shown[:, 0] * DECIBELS * 255 / 120 + 128).clamp(0, 255).numpy()


def test_a_waveform_is_the_same_picture_and_mixup_mixes_the_samples() -> None:
    """Against the spectrograms of `log_mel`, and of samples that were mixed by hand."""
    noise = np.random.default_rng(1).normal(size=(2, 16_000))
    noise[0] *= np.linspace(0.2, 1, 16_000)
    one, two, short = noise[0], chirp(1.0), noise[1, :9_876]
    kept = clips.Clips(
        np.stack([clips.waveform(signal, 16_000, 64) for signal in (one, two, short)]),
        np.array(["", "", ""]),
    )
    images = torch.from_numpy(clips.as_images(kept))
    assert images.dtype == torch.float32 and images.shape == (3, 1, log_mel.HOP, 64)
    found = spectrogram_of(images)
    for grey, signal in zip(found, (one, two, short), strict=True):
        assert np.abs(grey - log_mel.picture(signal, 16_000, 48, 64)).max() < 1.5
    assert (found[2][:, 40:] == 128).all()
    plan = Blend(torch.full((3, 1, 1, 1), 0.7), torch.tensor([1, 0, 2]))
    mixed = spectrogram_of(plan.mix_images(images))
    own, other = (log_mel.usual(signal, 16_000, 64) for signal in (one, two))
    wanted = log_mel.picture(0.7 * own + 0.3 * other, 16_000, 48, 64)
    assert np.abs(mixed[0] - wanted).max() < 1.5
    # No blend of the pictures.
    assert np.abs(mixed[0] - (0.7 * found[0] + 0.3 * found[1])).mean() > 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": {"name": "digits", "sound": "waveform"}}, "digits has no sound"),
        ({"training": {"crop_padding": 2}}, "samples crops and flips would put out of order"),
        ({"dataset": {"name": "klettres", "sound": "waves"}}, "got 'waves'"),
    ],
)
def test_waveforms_that_nothing_can_mix_are_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse({"dataset": {"name": "klettres", "sound": "waveform"}, **change})
