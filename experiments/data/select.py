"""Which images are used: stratified, seeded by the split seed alone, and nested in size.

Within a class, a seeded permutation ranks the images. The classes then take turns, each as often
as its share asks for (Webster's rule, ranks at `(rank + 1/2) / count`), after every class has had
its first. A smaller size is a prefix of a larger one, so the images of a small study are all in
the large one; balanced classes differ by one image at most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.errors import UserError

Indices = NDArray[np.int64]
_FOLDS = 1 << 32
_RANKS = 1 << 33


@dataclass(frozen=True)
class _Ranking:
    classes: int  # that occur
    rank: Indices  # of each image within its class
    count: Indices  # images of the class of each image
    turn: Indices  # position of the class of each image among the classes


def choose(labels: NDArray[np.integer], size: int, seed: int) -> Indices:
    """`size` indices into `labels`, ascending: stratified, and a subset of any larger choice."""
    return np.sort(_order(labels, seed)[:size])


def _order(labels: NDArray[np.integer], seed: int) -> Indices:
    """All indices, in the order in which classes take turns."""
    ranking = _rank(labels, seed)
    share = (ranking.rank + 0.5) / ranking.count
    share[ranking.rank == 0] = 0.0
    return np.asarray(np.lexsort((ranking.turn, share)))


def train_and_validation(
    labels: NDArray[np.integer], *, size: int, validation_fraction: float, seed: int, name: str
) -> tuple[Indices, Indices]:
    """Split `size` of the training images into (train, validation) indices, ascending, disjoint.

    `size` counts the images before the validation split is taken off. Both parts of a smaller
    size are subsets of the same parts of a larger one: an image that ever trains never validates.
    Raises UserError when there are too few images for every class to train and some to validate.
    """
    _check_size(labels, size, name)
    classes = len(np.unique(labels))
    ranking = _rank(labels, seed)
    # Of a class's first m images, V(m) = floor(m * fraction + phase) validate, so that image m
    # validates where V steps up. The phases differ between classes, so rounding evens out over
    # them. A class never gives away its only image.
    phase = (ranking.turn + 0.5) / ranking.classes
    before, after = (
        np.minimum(np.floor(m * validation_fraction + phase), np.maximum(m - 1, 0))
        for m in (ranking.rank, ranking.rank + 1)
    )
    chosen = choose(labels, size, seed)
    validates = (after > before)[chosen]
    if not validates.any():
        raise UserError(
            f"dataset.validation_fraction: {validation_fraction:g} of {size} training images in "
            f"{classes} classes leaves none to validate on; expected more images or a larger "
            f"fraction"
        )
    return chosen[~validates], chosen[validates]


def train_beside_validation(
    labels: NDArray[np.integer], *, size: int, validation_size: int, seed: int, name: str
) -> tuple[Indices, Indices]:
    """Take (train, validation) indices, ascending, disjoint: the first and the last of one order.

    All of `size` train, where as many are left. Validation images are the same for every `size`
    that leaves them, so that an image that ever trains there never validates. Raises UserError
    when the images left to train on are fewer than the classes.
    """
    _check_size(labels, size, name)
    classes, most = len(np.unique(labels)), len(labels)
    if most - validation_size < classes:
        raise UserError(
            f"dataset.validation_size: got {validation_size}, expected at most {most - classes}, "
            f"the {most} training images of {name} less one for each class"
        )
    order = _order(labels, seed)
    train = order[: min(size, most - validation_size)]
    return np.sort(train), np.sort(order[most - validation_size :])


def rank_in_class(labels: NDArray[np.integer], seed: int) -> Indices:
    """Return the rank of each image within its class, from 0, in an order drawn by the seed."""
    # A seed of its own: what is drawn later, among the first ones, does not depend on it.
    return _rank(labels, _RANKS + seed).rank


def folds_of(labels: NDArray[np.integer], folds: int, repetition: int) -> Indices:
    """Return the fold of each image, from 0: stratified, another division in each repetition.

    Neither the sizes of folds nor the images of a class in them differ by more than one.
    """
    # A seed of its own: the training subset of a fold does not depend on how folds are drawn.
    ranking = _rank(labels, _FOLDS + repetition)
    # One class after the other is dealt out to the folds, and the next goes on where it ended.
    return np.asarray(np.argsort(np.lexsort((ranking.rank, ranking.turn))) % folds)


def configured_indices(
    config: DatasetConfig, labels: NDArray[np.integer]
) -> tuple[Indices, Indices]:
    """The (train, validation) indices that a configuration takes of the training images."""
    if config.validation_size is not None:
        return train_beside_validation(
            labels,
            size=_size(config, labels),
            validation_size=config.validation_size,
            seed=config.split_seed,
            name=config.name,
        )
    return train_and_validation(
        labels,
        size=_size(config, labels),
        validation_fraction=config.validation_fraction,
        seed=config.split_seed,
        name=config.name,
    )


def configured_training_indices(config: DatasetConfig, labels: NDArray[np.integer]) -> Indices:
    """The training images that a configuration takes where others are there to validate on."""
    if config.validation_size is not None:
        raise UserError(
            f"dataset.validation_size: {config.name} has its own validation images; leave it out"
        )
    size = _size(config, labels)
    _check_size(labels, size, config.name)
    return choose(labels, size, config.split_seed)


def _size(config: DatasetConfig, labels: NDArray[np.integer]) -> int:
    """How many training images a configuration takes."""
    if config.train_size is not None:
        return config.train_size
    return (
        len(labels) if config.train_fraction is None else round(config.train_fraction * len(labels))
    )


def _check_size(labels: NDArray[np.integer], size: int, name: str) -> None:
    available, classes = len(labels), len(np.unique(labels))
    if size > available:
        raise UserError(
            f"dataset.train_size: got {size}, expected at most {available}, the training images "
            f"of {name}"
        )
    if size < classes:
        raise UserError(
            f"dataset.train_size: got {size}, expected at least {classes}, one image for each "
            f"class of {name}"
        )


def _rank(labels: NDArray[np.integer], seed: int) -> _Ranking:
    labels = np.asarray(labels, dtype=np.int64)
    classes, class_index = np.unique(labels, return_inverse=True)
    rank, count = np.empty_like(labels), np.empty_like(labels)
    for index, label in enumerate(classes):
        (members,) = np.nonzero(labels == label)
        rank[members[_generator(seed, index).permutation(len(members))]] = np.arange(len(members))
        count[members] = len(members)
    turn = _generator(seed, len(classes)).permutation(len(classes))[class_index]
    return _Ranking(len(classes), rank, count, turn)


def _generator(*key: int) -> np.random.RandomState:
    # RandomState's streams are frozen: every release of numpy gives the same split.
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(key)))
