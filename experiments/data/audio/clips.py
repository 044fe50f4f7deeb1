"""Decode files of sound into pictures, once: they are kept in the data folder."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.data.audio import log_mel
from mixbench.experiments.data.download import data_folder
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.files import atomic_write

INSTALL = "pip install 'mixbench[audio]' (or soundfile)"
_LONGEST_SECONDS = 60
"""What comes after it is not read: sound is looked for no further."""


@dataclass(frozen=True)
class Clips:
    """Pictures (N,bands,frames) of clips; `why_not` has for each why it has none, or ""."""

    images: NDArray[np.uint8]
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


def pictures(root: Path, files: Sequence[str], bands: int, frames: int) -> Clips:
    """Return the pictures of files below `root`, from the data folder where they were kept."""
    path = _path(root, files, bands, frames)
    kept = _read(path, (len(files), bands, frames))
    if kept is not None:
        return kept
    images = np.zeros((len(files), bands, frames), np.uint8)
    why_not = [""] * len(files)
    with ThreadPoolExecutor() as pool:
        found = pool.map(partial(_picture, bands=bands, frames=frames), [root / f for f in files])
        for index, image in enumerate(found):
            if isinstance(image, str):
                why_not[index] = image
            else:
                images[index] = image
    clips = Clips(images, np.array(why_not, dtype=np.str_))
    _keep(path, clips)
    return clips


def _picture(path: Path, bands: int, frames: int) -> NDArray[np.uint8] | str:
    """Return a clip's picture, or why there is none."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            samples = file.read(_LONGEST_SECONDS * rate, dtype="float64", always_2d=True)
        return log_mel.picture(samples.mean(axis=1), rate, bands, frames)
    except soundfile.LibsndfileError as error:
        return f"can't be decoded ({error.error_string.strip().rstrip('.')})"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)


def _path(root: Path, files: Sequence[str], bands: int, frames: int) -> Path:
    total = hashlib.sha256()
    for name in files:
        status = (root / name).stat()
        total.update(b"%s\0%d %d\n" % (os.fsencode(name), status.st_size, status.st_mtime_ns))
    name = f"{total.hexdigest()[:16]}-{bands}x{frames}.npz"
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
