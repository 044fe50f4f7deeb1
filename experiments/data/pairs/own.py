"""The user's own pairs of images and texts, decoded into memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.config.pair_file import KIND, PairFile, Row, open_pair_file
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.geometry import Shape
from mixbench.experiments.data.named import Arrays, NamedDataset
from mixbench.experiments.data.pairs.texts import counts_of
from mixbench.experiments.data.select import configured_indices, configured_training_indices
from mixbench.experiments.errors import UserError

Indices = NDArray[np.int64]


class OwnPairs(NamedDataset):
    """Images and texts of a CSV file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def find(self) -> str:
        """The file; UserError where it is not what `pair_file` expects."""
        return str(open_pair_file(self._path).path)

    def fetch(self) -> str:
        return self.find()

    def verify(self, source: str) -> None:
        open_pair_file(source)

    def read(self, source: str) -> Arrays:
        """Read all pairs, at the usual size."""
        return self.read_configured(source, DatasetConfig(name=f"{KIND}:{source}"))

    def read_configured(self, source: str, config: DatasetConfig) -> Arrays:
        """Decode all images; the file's own validation pairs come after those that train."""
        file = open_pair_file(source)
        shape = Shape(*config.sides, config.fit or "crop")
        train = (*file.train, *(file.validation or ()))
        return Arrays((), *_decoded(file, train, shape), *_decoded(file, file.test, shape))

    def choose(self, config: DatasetConfig, strata: Indices) -> tuple[Indices, Indices]:
        """Indices of the pairs to train and to validate on; no object does both.

        Of an object that is asked to validate no pair trains, and so a few less do where objects
        have several pairs.
        """
        file = open_pair_file(self._path)
        count = len(file.train)
        if file.validation is not None:
            train = configured_training_indices(config, strata[:count])
            return train, np.arange(count, len(strata))
        train, validation = configured_indices(config, strata)
        things = np.array([row.thing for row in file.train])
        kept = train[~np.isin(things[train], things[validation])]
        if len(kept) < 2:
            raise UserError(
                f"{KIND}: {file.path}: objects with a pair to validate on have all the others too; "
                "give a column split, or more objects"
            )
        return kept, validation


def _decoded(
    file: PairFile, rows: tuple[Row, ...], shape: Shape
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(partial(_decode, file=file, shape=shape), rows))
    return np.stack(images), counts_of([row.text for row in rows])


def _decode(row: Row, file: PairFile, shape: Shape) -> NDArray[np.uint8]:
    from mixbench.experiments.data.decode import Form, decode
    from mixbench.experiments.data.open_image import why_unreadable

    try:
        return np.ascontiguousarray(decode(row.image, Form(shape)).transpose(2, 0, 1))
    except Exception as error:  # a broken file can raise anything
        why = why_unreadable(row.image, error)
        raise UserError(f"{KIND}: {file.path}: cannot read {row.image} ({why})") from None
