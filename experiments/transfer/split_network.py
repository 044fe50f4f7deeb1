"""Split a network at a boundary: the part before gives features, the part behind takes them.

    boundary = Boundary("layer2")                       # the output of that module; or its input
    features = features_at(network, boundary, images)   # runs the network to there, no further
    behind = split(network, boundary, images)           # behind(features) equals network(images)

Works for any network whose `forward` is Python. The part behind is the network itself, run with the
modules before the boundary passed over: they return what they returned for one image, which keeps
the code between them working and costs next to nothing, and the boundary returns the features.
What a network carries past the boundary by another way (a long skip connection) is wrong then, so
compare after a split: `why_different` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = 1e-4
"""The largest difference relative to the largest number: rounding in another order."""
TOLERANCE_HALF = 2e-2


@dataclass(frozen=True)
class Boundary:
    """The output of the module `name`, or its input."""

    name: str
    before: bool = False


class _Reached(Exception):
    """The boundary is reached: the rest of the network need not run."""


def features_at(network: nn.Module, boundary: Boundary, images: Tensor) -> Tensor:
    """What `network` computes at `boundary` from images (B, C, H, W), without gradients.

    ValueError where that is no tensor with the batch first, or the boundary is not reached.
    """
    values: list[Any] = []

    def stop(value: Any) -> None:
        values.append(value)
        raise _Reached

    with torch.no_grad(), changed_at(network, boundary, stop), suppress(_Reached):
        network(images)
    if not values:
        raise ValueError(f"module {boundary.name!r} does not run")
    return _checked_features(values[0], boundary, len(images))


@contextmanager
def changed_at(
    network: nn.Module, boundary: Boundary, change: Callable[[Any], Any]
) -> Iterator[None]:
    """Within the context, the features at `boundary` go through `change`."""
    module = network.get_submodule(boundary.name)
    if boundary.before:
        hook = module.register_forward_pre_hook(
            lambda _module, arguments: (change(arguments[0]), *arguments[1:])
        )
    else:
        hook = module.register_forward_hook(lambda _module, _arguments, output: change(output))
    with hook:
        yield


class PartBehind(nn.Module):
    """The part of `network` behind `boundary`; its weights are the network's, below `network.`.

    passed: the modules that are passed over, with what they return, in the order of their calls.
    image: (1, C, H, W), which runs through the network in place of images.
    """

    def __init__(
        self,
        network: nn.Module,
        boundary: Boundary,
        passed: list[tuple[nn.Module, Any]],
        image: Tensor,
    ) -> None:
        super().__init__()
        self.network = network
        self._boundary = boundary
        # In a tuple, so that they are not modules of this one too.
        self._passed = tuple(passed)
        self._image = image

    def forward(self, features: Tensor) -> Tensor:
        """Features, as `features_at` returns them, to the output of the network."""
        module_at = self.network.get_submodule(self._boundary.name)
        outputs_of: dict[nn.Module, list[Any]] = {}
        for module, output in self._passed:
            outputs_of.setdefault(module, []).append(output)

        def restore() -> None:
            for module in (*outputs_of, module_at):
                module.__dict__.pop("forward", None)

        def enter(*arguments: Any, **named: Any) -> Any:
            # From here on every module does its own work: one that ran before may run again.
            restore()
            if self._boundary.before:
                return module_at.forward(features, *arguments[1:], **named)
            return features

        try:
            for module, outputs in outputs_of.items():
                module.__dict__["forward"] = _replay(outputs)
            module_at.__dict__["forward"] = enter
            logits: Tensor = self.network(self._image)
            return logits
        finally:
            restore()


def split(network: nn.Module, boundary: Boundary, images: Tensor) -> nn.Module:
    """The part of `network` behind `boundary`, from the features there to the network's output.

    images: at least one, as the network takes them. ValueError as from `features_at`.
    """
    trace = _Trace(network, boundary)
    with torch.no_grad(), ExitStack() as hooks:
        for module in network.modules():
            # After the hooks that are there, so that the image recorded has been resized.
            hooks.enter_context(module.register_forward_pre_hook(trace.begin))
            hooks.enter_context(module.register_forward_hook(trace.end))
        try:
            network(images[:1])
        except _Reached:
            pass
        else:
            raise ValueError(f"module {boundary.name!r} does not run")
    return PartBehind(network, boundary, trace.passed(), trace.images[0])


class _Trace:
    """Records, as hooks of all modules, the calls of one forward pass up to the boundary."""

    def __init__(self, network: nn.Module, boundary: Boundary) -> None:
        self._network = network
        self._module_at = network.get_submodule(boundary.name)
        self._before = boundary.before
        self._calls: list[tuple[nn.Module | None, nn.Module, Any]] = []
        self._running: list[nn.Module] = []
        self._around: list[nn.Module] = []
        self.images: list[Tensor] = []
        """What the network takes."""

    def begin(self, module: nn.Module, arguments: Any) -> None:
        """A module is called."""
        if module is self._network:
            self.images.append(arguments[0])
        if module is self._module_at:
            self._around.extend(self._running)
        self._running.append(module)
        if module is self._module_at and self._before:
            raise _Reached

    def end(self, module: nn.Module, _arguments: Any, output: Any) -> None:
        """A module returns."""
        self._running.pop()
        if module is self._module_at:
            raise _Reached
        self._calls.append((self._running[-1] if self._running else None, module, output))

    def passed(self) -> list[tuple[nn.Module, Any]]:
        """The calls to pass over, with what they return.

        Those made by the modules around the boundary; what is called within these does not run.
        """
        return [
            (module, output) for caller, module, output in self._calls if caller in self._around
        ]


@contextmanager
def side_effects_undone(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Restore the random state and the network's statistics at the end of the context."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(before[name])


def why_different(
    network: nn.Module, behind: nn.Module, boundary: Boundary, images: Tensor, features: Tensor
) -> str | None:
    """Why `behind(features)` is not `network(images)`; None where it is.

    In the mode that the network is in. What is trained must not be before the boundary, and what is
    drawn at random must be the same both ways.
    """
    seen: list[Tensor] = []

    def record(value: Any) -> Any:
        seen.append(value)
        return value.clone()

    def run_whole() -> Tensor:
        with changed_at(network, boundary, record):
            logits: Tensor = network(images)
        return logits

    def run_behind() -> Tensor:
        logits: Tensor = behind(features.clone())
        return logits

    with torch.enable_grad():
        whole = _outcome(network, run_whole, images.device)
        parts = _outcome(network, run_behind, images.device)
    name = boundary.name
    if len(seen) != 1:
        return f"module {name!r} runs {len(seen)} times"
    if seen[0].requires_grad:
        return f"something before the output of {name!r} is trained"
    if not _close(seen[0], features):
        return f"what is before the output of {name!r} is not the same every time"
    if not _close(whole.logits, parts.logits) or not _close(whole.statistics, parts.statistics):
        return f"the part behind {name!r} does not work alone"
    if not torch.equal(whole.next_random, parts.next_random):
        return f"random numbers are drawn before {name!r}"
    return None


@dataclass(frozen=True)
class _Outcome:
    """What a forward pass returns, and what it leaves behind."""

    logits: Tensor
    statistics: Tensor
    next_random: Tensor


def _outcome(network: nn.Module, run: Callable[[], Tensor], device: torch.device) -> _Outcome:
    """Run from the same random state and statistics every time."""
    with side_effects_undone(network, device):
        logits = run()
        next_random = torch.rand((), device=device)
        buffers = [buffer.float().flatten() for buffer in network.buffers()]
        statistics = torch.cat([logits.new_zeros(0).float(), *buffers])
    return _Outcome(logits.detach(), statistics, next_random)


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    if not one.numel():
        return True
    exact = one.dtype == torch.float32 == other.dtype
    limit = (TOLERANCE if exact else TOLERANCE_HALF) * max(1.0, float(one.detach().abs().max()))
    # Written so that NaN is not close.
    return float((one.detach().float() - other.detach().float()).abs().max()) <= limit


def _replay(outputs: list[Any]) -> Callable[..., Any]:
    """A `forward` that returns these outputs, one a call."""
    remaining = iter(outputs)
    return lambda *_arguments, **_named: next(remaining)


def _checked_features(value: Any, boundary: Boundary, batch: int) -> Tensor:
    if not isinstance(value, Tensor) or value.dim() < 2 or value.shape[0] != batch:
        got = (
            f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        )
        side = "takes" if boundary.before else "gives"
        raise ValueError(f"module {boundary.name!r} {side} {got}, expected a tensor ({batch}, ...)")
    return value
