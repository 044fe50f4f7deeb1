"""The ranks of a run, processes that train it together, one per device, and their communication.

    ranks.part                     which share of a batch is this process's: (rank, size)
    ranks.meet(images, order)      before a step: everybody's images, and what rank 0 wants done
    ranks.wrap(network)            the network whose gradients are the mean over all ranks

`ALONE`, the usual case, does nothing and costs nothing. A `Group` is torch's
DistributedDataParallel, with a second channel on the CPU for the bookkeeping, which never waits for
the GPUs. Batch normalisation takes the statistics of each rank's own images (plain DDP); rank 0's
are kept.

Only tensors, numbers and text are sent, and read as a checkpoint is: never run as code.
"""

from __future__ import annotations

import datetime
import io
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")
PATIENCE = datetime.timedelta(minutes=30)
"""How long a rank waits for the others: they may still be reading the data set."""


class Ranks:
    """One process by itself. `rank` (from 0) of `size`."""

    rank = 0
    size = 1

    @property
    def part(self) -> tuple[int, int]:
        """(rank, size), as `Split.epoch` takes it."""
        return self.rank, self.size

    @property
    def leads(self) -> bool:
        """Is this rank 0, the one that writes?"""
        return self.rank == 0

    def stream(self, name: str) -> str:
        """The name of this rank's own stream of random numbers; rank 0 has that of a lone run."""
        return name if self.rank == 0 else f"{name} of rank {self.rank}"

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network to train with; its parameters and buffers start as those of rank 0."""
        return network

    def meet(self, images: int, order: int) -> tuple[list[int], int]:
        """Return every rank's number of images for the next step, and rank 0's `order`."""
        return [images], order

    def wait(self) -> None:
        """Until all ranks are here."""

    def total(self, values: Tensor) -> Tensor:
        """The sum over all ranks of small tensors, on the CPU in float64; the same everywhere."""
        return values.detach().double().cpu()

    def share(self, value: T) -> T:
        """Rank 0's value: CPU tensors, numbers, text and containers of these."""
        return value

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, by rank, on rank 0; elsewhere only this one's. As in `share`."""
        return [value]

    def align(self, network: nn.Module) -> None:
        """Give all ranks the buffers of rank 0, such as the statistics of batch normalisation."""

    def interleave(self, items: list[T]) -> list[T]:
        """On rank 0: the items of all ranks, taken in turns, in the order of `Split.batches`."""
        return items


ALONE = Ranks()


class Group(Ranks):
    """One of several processes; they meet at `store`, which is a torch.distributed store."""

    def __init__(self, store: Store, rank: int, size: int, device: torch.device) -> None:
        self.rank = rank
        self.size = size
        self._device = device
        cuda = device.type == "cuda"
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=PATIENCE,
            device_id=device if cuda else None,
        )
        try:
            # A separate group, so that gradients and bookkeeping don't wait for each other.
            talk = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
        except Exception:
            self.close(broken=True)
            raise
        # It is a number for one that is not in the group; all are.
        self._talk = cast(torch.distributed.ProcessGroup, talk)

    def close(self, *, broken: bool = False) -> None:
        """Leave the group. `broken`: don't wait for pending operations, which may never end."""
        if broken and self._device.type == "cuda":
            torch.distributed.distributed_c10d._abort_process_group()
        else:
            torch.distributed.destroy_process_group()

    def wrap(self, network: nn.Module) -> nn.Module:
        if self._device.type == "cuda":
            return nn.parallel.DistributedDataParallel(network, device_ids=[self._device])
        # DDP regroups the gradients after its first step, unless some may be unused. Between more
        # than two ranks the grouping decides in which order they are summed, and a training that
        # continues has its first step elsewhere: it would differ in the last digits.
        return nn.parallel.DistributedDataParallel(network, find_unused_parameters=self.size > 2)

    def meet(self, images: int, order: int) -> tuple[list[int], int]:
        row = torch.tensor([images, order], dtype=torch.int64)
        every = [torch.empty_like(row) for _ in range(self.size)]
        torch.distributed.all_gather(every, row, group=self._talk)
        return [int(one[0]) for one in every], int(every[0][1])

    def wait(self) -> None:
        self.meet(0, 0)

    def total(self, values: Tensor) -> Tensor:
        summed = values.detach().double().cpu()
        torch.distributed.all_reduce(summed, group=self._talk)
        return summed

    def share(self, value: T) -> T:
        packed = _pack(value) if self.leads else torch.empty(0, dtype=torch.uint8)
        length = torch.tensor([len(packed)])
        torch.distributed.broadcast(length, src=0, group=self._talk)
        if not self.leads:
            packed = torch.empty(int(length), dtype=torch.uint8)
        torch.distributed.broadcast(packed, src=0, group=self._talk)
        return value if self.leads else _unpack(packed)

    def gather(self, value: T) -> list[T]:
        packed = torch.empty(0, dtype=torch.uint8) if self.leads else _pack(value)
        lengths, _ = self.meet(len(packed), 0)
        if not self.leads:
            torch.distributed.send(packed, dst=0, group=self._talk)
            return [value]
        every = [value]
        # One after the other: together they may be more than fits in memory twice.
        for rank in range(1, self.size):
            packed = torch.empty(lengths[rank], dtype=torch.uint8)
            torch.distributed.recv(packed, src=rank, group=self._talk)
            every.append(_unpack(packed))
        return every

    def align(self, network: nn.Module) -> None:
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, src=0)

    def interleave(self, items: list[T]) -> list[T]:
        every = self.gather(items)
        return turns(every) if self.leads else items


def turns(lists: Sequence[Sequence[T]]) -> list[T]:
    """One item of each list in turn, until all are used up."""
    missing = object()
    rows = itertools.zip_longest(*lists, fillvalue=missing)
    return [item for row in rows for item in row if item is not missing]  # type: ignore[misc]


def _pack(value: Any) -> Tensor:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)


def _unpack(packed: Tensor) -> Any:
    return torch.load(io.BytesIO(packed.numpy().tobytes()), map_location="cpu", weights_only=True)
