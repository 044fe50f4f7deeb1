"""Find a data set on this machine, or fetch it. Nothing here imports torch."""

from __future__ import annotations

from mixbench.experiments.config import datasets
from mixbench.experiments.data.by_name import named_dataset


def available_offline(name: str) -> bool:
    """Whether data set `name` is on this machine, so that `load` fetches nothing."""
    datasets.info(name)
    return datasets.has_files(name) or named_dataset(name).find() is not None


def ensure(name: str, *, verify: bool = True) -> str:
    """Find data set `name`, or fetch it, and return where it is.

    Call it once before several processes load the same data set. Raises UserError when it is
    neither here nor to be had, or (with `verify`) when its files are not what was published.
    """
    info = datasets.info(name)
    if datasets.has_files(name):
        return info.source
    dataset = named_dataset(name)
    source = dataset.find() or dataset.fetch()
    if verify:
        dataset.verify(source)
    return source
