"""Connect the ranks of one run, and tell when one is gone."""

from __future__ import annotations

import importlib
import os
import socket
import sys
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    # `torch.distributed` has it too, but does not declare that it exports it.
    from torch._C._distributed_c10d import TCPStore

LOOPBACK = "127.0.0.1"
LEFT_ALONE = 3
"""The exit status of a rank that ends because another one is gone."""


def open_store(host: str, size: int) -> TCPStore:
    """Open the store at which `size` ranks meet; on the loopback, no other machine reaches it."""
    from torch._C._distributed_c10d import TCPStore

    if host != LOOPBACK:
        return TCPStore(host, 0, size, is_master=True, wait_for_workers=False)
    _use_loopback()
    listener = socket.create_server((host, 0))
    store = TCPStore(
        host,
        listener.getsockname()[1],
        size,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listener.fileno(),
    )
    listener.detach()  # The store owns the socket now.
    return store


def join_store(address: str, size: int) -> TCPStore:
    """Connect to the store that rank 0 opened at "HOST:PORT"."""
    from torch._C._distributed_c10d import TCPStore

    host, _, port = address.rpartition(":")
    if host == LOOPBACK:
        _use_loopback()
    return TCPStore(host, int(port), size, is_master=False)


def arrival_key(rank: int) -> str:
    """The key that a rank sets in the store when it has started."""
    return f"rank {rank} is here"


def import_what_ddp_needs() -> None:
    """Import torch's compiler now, while the claim is renewed: DDP's constructor would."""
    importlib.import_module("torch._dynamo")


def is_lost_connection(error: Exception) -> bool:
    """Does the error mean that another rank is gone?"""
    if isinstance(error, torch.distributed.DistError):
        return True
    signs = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def _use_loopback() -> None:
    if sys.platform == "linux":
        # Where the host's name leads nowhere, gloo would not find an address by itself.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
