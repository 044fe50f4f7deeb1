"""Weights that were trained before: into a network, or checked for it before any run begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

from mixbench.experiments.config import datasets, weights
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.config.teacher import errors_of_teacher, teacher_run
from mixbench.experiments.errors import UserError
from mixbench.experiments.models.build import build
from mixbench.experiments.store import sweep_folder
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.transfer import read
from mixbench.experiments.transfer.fit import fit_weights
from mixbench.experiments.transfer.layers import head_of


def load_weights(network: nn.Module, config: RunConfig, runs: Path) -> None:
    """Put the weights that `config.transfer` names into `network`, all but a new head's.

    runs: the folder of the sweep's runs, where those of its own pretraining are. UserError where
    they can't be had or don't fit.
    """
    if config.transfer is None or config.transfer.weights is None:
        return
    source = weights.parts(config.transfer.weights)
    if source.kind == "cell":
        sweep = SweepFolder(runs.parent)
        run = read.find_cell(sweep, source.key, config.replicate, config.seed)
        state = read.read_run(run, sweep.name)
    else:
        state = _read_state(network, config, source, runs.parent.parent)
    # Not strictly: a new head is not among them, and `fit_weights` has looked at the rest.
    network.load_state_dict(_fit(network, state, config), strict=False)
    if config.transfer.head != "keep":
        _reset_head(network, config.seed)


def load_teacher(
    config: RunConfig, channels: int, size: int | tuple[int, int], runs: Path
) -> nn.Module | None:
    """Return the teacher of a run on the CPU, in evaluation mode and without gradients; or None.

    channels, size: of the images. runs: as of `load_weights`. UserError where its weights can't be
    had or don't fit.
    """
    as_run = teacher_run(config)
    if as_run is None:
        return None
    network = build(
        as_run.model,
        channels=channels,
        classes=config.dataset.classes,
        size=config.dataset.image_size or size,
        seed=config.seed,
    )
    with errors_of_teacher():
        load_weights(network, as_run, runs)
    return network.requires_grad_(False).eval()


def _reset_head(network: nn.Module, seed: int) -> None:
    """Draw a new classifier from the seed alone, as torch begins a linear layer.

    As networks begin it themselves it may be meant for a thousand classes: for ten, EfficientNet's
    gives so large logits that a short training only undoes them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.get_submodule(head_of(network)).modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.reset_parameters()


def check_weights(runs: Iterable[RunConfig], cells: Mapping[str, RunConfig]) -> None:
    """UserError for weights that can't be had or don't fit, as far as is known before any run.

    Weights of timm's hub are fetched here, so that workers find them in the cache. cells: a run of
    each cell of the sweep, by the cell's key; of a pretraining among them the shapes are checked.
    """
    runs = list(runs)
    _check_weights(runs, cells)
    with errors_of_teacher():
        _check_weights([run for config in runs if (run := teacher_run(config))], cells)


def _check_weights(runs: Iterable[RunConfig], cells: Mapping[str, RunConfig]) -> None:
    seen = set()
    for config in runs:
        if config.transfer is None or config.transfer.weights is None:
            continue
        # Seeds, methods and the rest of the transfer change no shape.
        shape = (config.model, config.dataset.name, config.dataset.image_size)
        asked = (*shape, config.transfer.weights, config.transfer.head)
        if asked in seen:
            continue
        seen.add(asked)
        network = meta_network(config)
        source = weights.parts(config.transfer.weights)
        if source.kind == "cell":
            if source.key not in cells:
                raise UserError(f"transfer.weights: the sweep has no cell {source.key}")
            state = dict(meta_network(cells[source.key]).state_dict())
        else:
            if source.kind == "run":
                _check_sweep(source.location)
            state = _read_state(network, config, source, sweep_folder.root())
        _fit(network, state, config)


def _check_sweep(sweep: str) -> None:
    try:
        SweepFolder.open(sweep)
    except UserError as error:
        raise UserError(f"transfer.weights: {error}") from None


def meta_network(config: RunConfig) -> nn.Module:
    """The network of a run on torch's meta device: shapes without numbers, quick for any size."""
    facts = datasets.info(config.dataset.name)
    with torch.device("meta"):
        return build(
            config.model,
            channels=facts.channels,
            classes=config.dataset.classes,
            size=config.dataset.image_size or facts.size,
            seed=config.seed,
        )


def _read_state(
    network: nn.Module, config: RunConfig, source: weights.Source, root: Path
) -> read.State:
    """Read the weights of any source but a cell. root: the folder of the sweeps."""
    if source.kind == "file":
        return read.read_file(Path(source.location), source.key)
    if source.kind == "hub":
        return read.read_hub(source.key, config.model.input_size or config.dataset.image_size)
    if source.kind == weights.LITE0:
        return read.read_lite0(network)
    sweep = SweepFolder(root / source.location)
    return read.read_run(read.find_run(sweep, source.key), sweep.name)


def _fit(network: nn.Module, state: read.State, config: RunConfig) -> read.State:
    keep = config.transfer is not None and config.transfer.head == "keep"
    model = config.model
    hints = []
    if model.small_stem:
        hints.append("model.small_stem: true has a stem of another shape")
    if model.width is not None:
        hints.append(f"model.width is {model.width} here")
    hint = f" ({'; '.join(hints)})" if hints else ""
    return fit_weights(network, state, model=model.name, keep_head=keep, hint=hint)
