"""Several domains as one data set: each image has its class and the number of its domain."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from mixbench.experiments.config.domains import NAME, parts_of
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data import fetch
from mixbench.experiments.data.by_name import named_dataset
from mixbench.experiments.data.domains.fonts import FONTS
from mixbench.experiments.data.geometry import Shape
from mixbench.experiments.data.named import Arrays, NamedDataset
from mixbench.experiments.data.select import choose, folds_of
from mixbench.experiments.errors import UserError

MOST = 5_000
"""Images of a source of domains, at most."""

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


class Domains(NamedDataset):
    """Domains to train on, with as many images each, and another one to test on.

    No image is in two domains: those of one source, turned by several angles, share its images out.
    """

    def find(self) -> str:
        return NAME

    def fetch(self) -> str:
        return NAME

    def verify(self, source: str) -> None:
        pass

    def read(self, source: str) -> Arrays:
        """Raise UserError: there are no usual domains."""
        raise UserError(f"{source}: name domains and a target")

    def read_configured(self, source: str, config: DatasetConfig) -> Arrays:  # noqa: ARG002
        """Read the domains; what a machine lacks is fetched. Labels: class, and domain (N,2)."""
        domains = [*(config.domains or ()), str(config.target)]
        read = _pools(tuple(domains), config.sides)
        *sources, target = read
        least = min(len(labels) for _, labels in sources)
        images, targets = [], []
        for number, (pixels, labels) in enumerate(sources):
            kept = choose(labels, least, config.split_seed)
            images.append(pixels[kept])
            targets.append(_with_domain(labels[kept], number))
        return Arrays(
            class_names(domains[0]),
            np.concatenate(images),
            np.concatenate(targets),
            target[0],
            _with_domain(target[1], len(sources)),
        )


def class_names(domain: str) -> tuple[str, ...]:
    """Return the names of the classes of a domain."""
    return _source(parts_of(domain)[0])[2]


def _with_domain(labels: Labels, number: int) -> Labels:
    return np.stack([labels, np.full_like(labels, number)], axis=1)


@lru_cache(maxsize=4)
def _pools(domains: tuple[str, ...], sides: tuple[int, int]) -> list[tuple[Images, Labels]]:
    """The images (N,1,H,W) and labels of each domain; replicates share them."""
    parts = [parts_of(domain) for domain in domains]
    shared = Counter(name for name, _ in parts)
    taken: Counter[str] = Counter()
    pools = []
    for name, angle in parts:
        images, labels, _ = _source(name)
        if shared[name] > 1:
            own = folds_of(labels, shared[name], 0) == taken[name]
            images, labels = images[own], labels[own]
        taken[name] += 1
        pools.append((_prepared(images, angle, sides), labels))
    return pools


@lru_cache(maxsize=4)
def _source(name: str) -> tuple[Images, Labels, tuple[str, ...]]:
    """All images of a source, at most `MOST`, always the same."""
    if name == "fonts":
        images, labels = FONTS.glyphs()
        classes = tuple("0123456789")
    else:
        arrays = named_dataset(name).read(fetch.ensure(name, verify=False))
        images = np.concatenate([arrays.train_images, arrays.test_images])
        labels = np.concatenate([arrays.train_labels, arrays.test_labels])
        classes = arrays.classes
    kept = choose(labels, min(MOST, len(labels)), seed=0)
    return images[kept], labels[kept], classes


def _prepared(images: Images, angle: int, sides: tuple[int, int]) -> Images:
    """Turn images, resize them, and stretch each from black to white.

    Contrast is no part of what differs: else much of a domain's gain is that of its contrast.
    """
    from mixbench.experiments.data.load import fitted
    from mixbench.experiments.data.sets.rotated_fashion_mnist import rotated

    if angle:
        images = rotated(images, np.full(len(images), angle, np.float32))
    pixels = fitted(torch.from_numpy(images), Shape(*sides)).numpy().astype(np.int64)
    low = pixels.min(axis=(1, 2, 3), keepdims=True)
    spread = np.maximum(pixels.max(axis=(1, 2, 3), keepdims=True) - low, 1)
    stretched: Images = ((pixels - low) * 255 // spread).astype(np.uint8)
    return stretched


DOMAINS = Domains()
