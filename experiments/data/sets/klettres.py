"""KLettres' spoken letters and syllables in 20 languages (Debian): which language is it?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.audio.clips import as_images, need_decoder, pictures
from mixbench.experiments.data.debian_package import unpack
from mixbench.experiments.data.download import Unavailable, data_folder, work_folder
from mixbench.experiments.data.named import Arrays, NamedDataset
from mixbench.experiments.data.select import rank_in_class
from mixbench.experiments.errors import UserError

INFO = DatasetInfo(
    name="klettres",
    title="spoken letters and syllables, as log-mel spectrograms",
    channels=1,
    size=(48, 64),
    classes=20,
    train=300,
    test=1_536,
    flip=False,
    crop_padding=0,
    is_sound=True,
    source="the system's package klettres-data, or $MIXBENCH_DATA",
)

PACKAGE = "klettres-data"
SYSTEM_FOLDER = Path("/usr/share/klettres")
CLIPS_TO_TRAIN = 15
"""Of each language; the others test."""
CLIPS = {
    "ar": 28,
    "cs": 50,
    "da": 57,
    "de": 64,
    "en": 45,
    "en_GB": 49,
    "es": 144,
    "fr": 54,
    "he": 52,
    "hu": 82,
    "it": 100,
    "lt": 102,
    "ml": 521,
    "nb": 29,
    "nds": 78,
    "nl": 48,
    "pt_BR": 102,
    "ru": 94,
    "tn": 43,
    "uk": 94,
}
"""How many clips each language has."""


class _KLettres(NamedDataset):
    """`split_seed` says which clips may train; all others test, in each replicate other ones."""

    def find(self) -> str | None:
        """The first folder that has the languages."""
        fetched = data_folder() / "klettres"
        folders = [SYSTEM_FOLDER, fetched]
        if os.environ.get("MIXBENCH_DATA"):
            folders.reverse()
        complete = (folder for folder in folders if all((folder / c).is_dir() for c in CLIPS))
        return next(map(str, complete), None)

    def fetch(self) -> str:
        """Unpack the system's package into the data folder; needs no privileges."""
        target = data_folder() / "klettres"
        try:
            with work_folder() as work:
                folder = unpack(PACKAGE, work) / SYSTEM_FOLDER.relative_to("/")
                self.verify(str(folder))
                shutil.rmtree(target, ignore_errors=True)
                os.replace(folder, target)
        except (Unavailable, UserError) as error:
            raise UserError(
                f"klettres: not on this machine and not to be had: {error}; install the system's "
                f"package {PACKAGE} (Debian, Ubuntu): apt-get install {PACKAGE}"
            ) from None
        except OSError as error:
            raise UserError(
                f"klettres: cannot write to {target.parent} ({error.strerror or error})"
            ) from None
        return str(target)

    def verify(self, source: str) -> None:
        _files(source)

    def read(self, source: str) -> Arrays:
        """Read all clips, divided by the first seed, at the usual size."""
        return self.read_configured(source, DatasetConfig(name=INFO.name))

    def read_configured(self, source: str, config: DatasetConfig) -> Arrays:
        """Read all clips; of each language `CLIPS_TO_TRAIN` are there to train and validate on."""
        need_decoder(INFO.name)
        files, labels = _files(source)
        clips = pictures(Path(source), files, config.sides, config.sound)
        skipped = {
            f"{source}/{name}": why
            for name, why in zip(files, clips.why_not.tolist(), strict=True)
            if why
        }
        images, labels = as_images(clips)[clips.usable], labels[clips.usable]
        trains = rank_in_class(labels, config.split_seed) < CLIPS_TO_TRAIN
        return Arrays(
            tuple(CLIPS), images[trains], labels[trains], images[~trains], labels[~trains], skipped
        )


DATASET = _KLettres()


def _files(source: str) -> tuple[list[str], NDArray[np.int64]]:
    """Return the clips below a folder and the languages' numbers; UserError where some lack."""
    files: list[str] = []
    for language, count in CLIPS.items():
        paths = sorted((Path(source) / language).rglob("*.ogg"))
        if len(paths) != count:
            raise UserError(
                f"klettres: {source}/{language} has {len(paths)} clips (.ogg), expected the "
                f"{count} of the package {PACKAGE}; install it again"
            )
        files += [path.relative_to(source).as_posix() for path in paths]
    return files, np.repeat(np.arange(len(CLIPS), dtype=np.int64), list(CLIPS.values()))
