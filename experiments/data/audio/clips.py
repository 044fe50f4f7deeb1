"""Decode files of sound into pictures, once: they are kept in the data folder."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.data.audio import log_mel
from mixbench.experiments.data.download import data_folder
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.files import atomic_write

INSTALL = "pip install 'mixbench[audio]' (or soundfile)"
LOUDNESS = 0.05
"""The root of a waveform's mean square: peaks of twenty times that are cut off."""
LARGEST = 32_767
Sound = Literal["waveform"] | None
"""As `dataset.sound`; None: spectrograms."""
Draw = Callable[[log_mel.Signal, int], NDArray[Any]]
_LONGEST_SECONDS = 60
"""What comes after it is not read: sound is looked for no further."""


@dataclass(frozen=True)
class Clips:
    """Pictures (N,H,W) of clips; `why_not` has for each why it has none, or ""."""

    images: NDArray[Any]
    why_not: NDArray[np.str_]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which clips could be decoded: (N,)."""
        return np.asarray(self.why_not == "")


def need_decoder(name: str) -> None:
    """Raise UserError where the library that decodes sound is missing."""
    try:
        import soundfile  # noqa: F401
    except (ImportError, OSError):  # OSError: without its libsndfile
        raise UserError(f"{name}: needs soundfile to decode clips; {INSTALL}") from None


def pictures(
    root: Path, files: Sequence[str], sides: tuple[int, int], sound: Sound = None
) -> Clips:
    """Return the pictures of files below `root`, from the data folder where they were kept.

    They are spectrograms of `sides`, bands and frames; with the sound "waveform" the samples
    themselves, (log_mel.HOP, frames): a column has those of a moment.
    """
    bands, frames = sides
    draw: Draw
    if sound == "waveform":
        draw, rows = partial(waveform, frames=frames), log_mel.HOP
    else:
        draw, rows = partial(log_mel.picture, bands=bands, frames=frames), bands
    kind = np.int16 if sound else np.uint8
    path = _path(root, files, sound or str(bands), frames)
    kept = _read(path, (len(files), rows, frames))
    if kept is not None:
        return kept
    images = np.zeros((len(files), rows, frames), kind)
    why_not = [""] * len(files)
    with ThreadPoolExecutor() as pool:
        found = pool.map(partial(_picture, draw=draw), [root / f for f in files])
        for index, image in enumerate(found):
            if isinstance(image, str):
                why_not[index] = image
            else:
                images[index] = image
    clips = Clips(images, np.array(why_not, dtype=np.str_))
    _keep(path, clips)
    return clips


def waveform(signal: log_mel.Signal, rate: int, frames: int) -> NDArray[np.int16]:
    """Return the samples (HOP, frames) of a signal, as loud as all others; 0 where it has ended.

    Raises ValueError as `log_mel.picture`.
    """
    clip = log_mel.usual(signal, rate, frames) * LOUDNESS
    samples = np.zeros(frames * log_mel.HOP)
    samples[: len(clip)] = clip
    loud = (samples.clip(-1, 1) * LARGEST).round().astype(np.int16)
    return np.ascontiguousarray(loud.reshape(frames, log_mel.HOP).T)


def as_images(clips: Clips) -> NDArray[Any]:
    """Return the pictures as a data set has them: (N,1,H,W) from 0 to 255, silence at 127.5."""
    if clips.images.dtype == np.uint8:
        return clips.images[:, None]
    return (clips.images[:, None] * np.float32(127.5 / LARGEST)) + np.float32(127.5)


def _picture(path: Path, draw: Draw) -> NDArray[Any] | str:
    """Return a clip's picture, or why there is none."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            samples = file.read(_LONGEST_SECONDS * rate, dtype="float64", always_2d=True)
        return draw(samples.mean(axis=1), rate)
    except soundfile.LibsndfileError as error:
        return f"can't be decoded ({error.error_string.strip().rstrip('.')})"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)


def _path(root: Path, files: Sequence[str], rows: str, frames: int) -> Path:
    total = hashlib.sha256()
    for name in files:
        status = (root / name).stat()
        total.update(b"%s\0%d %d\n" % (os.fsencode(name), status.st_size, status.st_mtime_ns))
    name = f"{total.hexdigest()[:16]}-{rows}x{frames}.npz"
    return data_folder() / "log_mel" / f"revision{log_mel.REVISION}" / name


def _read(path: Path, shape: tuple[int, int, int]) -> Clips | None:
    """The clips in a file; None without it, or where it is not what was written."""
    try:
        with np.load(path, allow_pickle=False) as file:
            clips = Clips(file["images"], file["why_not"])
            digest = str(file["digest"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return clips if clips.images.shape == shape and digest == _digest(clips) else None


def _keep(path: Path, clips: Clips) -> None:
    """Write the file; a data folder that can't be written to costs time alone."""
    content = io.BytesIO()
    np.savez_compressed(
        content, images=clips.images, why_not=clips.why_not, digest=np.array(_digest(clips))
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, content.getvalue())
    except OSError:
        return


def _digest(clips: Clips) -> str:
    total = hashlib.sha256(np.ascontiguousarray(clips.images).data)
    total.update("\n".join(clips.why_not.tolist()).encode())
    return total.hexdigest()
