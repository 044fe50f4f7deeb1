"""What differs in the workers of a DataLoader: random numbers."""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch.utils.data import get_worker_info

_reseeded: set[int] = set()
"""The seeds that generators got in this process."""


def reseed_in_worker(generator: torch.Generator, process: int) -> None:
    """Give a generator that was copied into a DataLoader's worker a seed of its own, once.

    All workers of all epochs begin with copies of one generator and would draw the same numbers.
    The new seed comes from the generator's and from the worker's, which the DataLoader draws for
    each epoch and worker from its own `generator`: a seeded loader repeats its batches.

    Args:
        generator: Reseeded in place if this is a worker; otherwise left as it is.
        process: The process that the generator comes from.
    """
    worker = get_worker_info()
    # One that was made in this worker is not a copy.
    if worker is None or process == os.getpid():
        return
    seed = generator.initial_seed()
    # Several transforms may share a generator: it is reseeded for the first of them.
    if seed in _reseeded:
        return
    digest = blake2b(f"{seed} {worker.seed}".encode(), digest_size=7).digest()
    own = int.from_bytes(digest, "big")
    generator.manual_seed(own)
    _reseeded.add(own)


class _Portable:
    """A generator on its way to another process, where it is unpickled as a generator.

    torch pickles a generator's state as a tensor, which travels as an open file of shared memory
    and may be closed before a spawned worker has it.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = ref(generator)

    def __reduce__(self) -> tuple[Any, ...]:
        generator = self.generator()
        if generator is None:
            raise ValueError("generator: expected one that is still in use, got none")
        return _generator, (str(generator.device), generator.get_state().numpy().tobytes())


def portable(generator: torch.Generator | None) -> Any:
    """Return what to pickle in the place of a generator; those who share it go on sharing it."""
    return None if generator is None else _portables.setdefault(generator, _Portable(generator))


_portables: WeakKeyDictionary[torch.Generator, _Portable] = WeakKeyDictionary()


def _generator(device: str, state: bytes) -> torch.Generator:
    generator = torch.Generator(device)
    generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
    return generator
