"""A network in two parts: up to a boundary, and the rest, which takes what is made there.

    place = Place("layer2")                    # the output of that module; or the input of one
    features = reach(network, place, images)   # runs the network to there, and no further
    rest = split(network, place, images)       # rest(features) is network(images)

Any network will do whose `forward` is Python. The rest is the network itself, run with the modules
before the boundary passed over: they give back what they made of one image, which keeps the code
between them working and costs next to nothing, and the boundary gives the features. What a network
carries past the boundary by another way (a long skip connection) is wrong then, so whoever splits a
network must compare: `agree` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = 1e-4
"""How far the two ways may be apart, relative to the largest number: rounding in another order."""
TOLERANCE_HALF = 2e-2


@dataclass(frozen=True)
class Place:
    """The output of the module `name`, or its input."""

    name: str
    before: bool = False


class _Reached(Exception):
    """The boundary is reached: the rest of the network need not run."""


def reach(network: nn.Module, place: Place, images: Tensor) -> Tensor:
    """What `network` makes of images (B, C, H, W) at `place`, without gradients.

    ValueError where that is no tensor with the batch first, or the place is not reached.
    """
    found: list[Any] = []

    def stop(value: Any) -> None:
        found.append(value)
        raise _Reached

    with torch.no_grad(), changed(network, place, stop), suppress(_Reached):
        network(images)
    if not found:
        raise ValueError(f"module {place.name!r} does not run")
    return _checked(found[0], place, len(images))


@contextmanager
def changed(network: nn.Module, place: Place, change: Callable[[Any], Any]) -> Iterator[None]:
    """Within the context, what is at `place` goes through `change` on its way."""
    module = network.get_submodule(place.name)
    if place.before:
        hook = module.register_forward_pre_hook(
            lambda _module, arguments: (change(arguments[0]), *arguments[1:])
        )
    else:
        hook = module.register_forward_hook(lambda _module, _arguments, output: change(output))
    with hook:
        yield


class Rest(nn.Module):
    """The part of `network` behind `place`; its weights are those of the network, by `network.`."""

    def __init__(
        self, network: nn.Module, place: Place, passed: list[tuple[nn.Module, Any]], image: Tensor
    ) -> None:
        super().__init__()
        self.network = network
        self._place = place
        # In a tuple, so that they are not modules of this one too.
        self._passed = tuple(passed)
        self._image = image

    def forward(self, features: Tensor) -> Tensor:
        """Features, as `reach` gives them, to what the network makes of them."""
        boundary = self.network.get_submodule(self._place.name)
        changed: dict[nn.Module, list[Any]] = {}
        for module, output in self._passed:
            changed.setdefault(module, []).append(output)

        def restore() -> None:
            for module in (*changed, boundary):
                module.__dict__.pop("forward", None)

        def enter(*arguments: Any, **named: Any) -> Any:
            # From here on every module does its own work: one that ran before may run again.
            restore()
            if self._place.before:
                return boundary.forward(features, *arguments[1:], **named)
            return features

        try:
            for module, outputs in changed.items():
                module.__dict__["forward"] = _replay(outputs)
            boundary.__dict__["forward"] = enter
            return self.network(self._image)
        finally:
            restore()


def split(network: nn.Module, place: Place, images: Tensor) -> nn.Module:
    """What takes the features at `place` and gives what `network` gives; see above.

    images: at least one, as the network takes them. ValueError as from `reach`.
    """
    boundary = network.get_submodule(place.name)
    calls: list[tuple[nn.Module | None, nn.Module, Any]] = []
    running: list[nn.Module] = []
    around: list[nn.Module] = []
    entered: list[Tensor] = []

    def begin(module: nn.Module, arguments: Any) -> None:
        if module is network:
            entered.append(arguments[0])
        if module is boundary:
            around.extend(running)
        running.append(module)
        if module is boundary and place.before:
            raise _Reached

    def end(module: nn.Module, _arguments: Any, output: Any) -> None:
        running.pop()
        if module is boundary:
            raise _Reached
        calls.append((running[-1] if running else None, module, output))

    with torch.no_grad(), ExitStack() as hooks:
        for module in network.modules():
            # After the hooks that are there: the image that is kept has been resized.
            hooks.enter_context(module.register_forward_pre_hook(begin))
            hooks.enter_context(module.register_forward_hook(end))
        try:
            network(images[:1])
        except _Reached:
            pass
        else:
            raise ValueError(f"module {place.name!r} does not run")
    # Those that the modules around the boundary call; what they call in turn does not run at all.
    passed = [(module, output) for caller, module, output in calls if caller in around]
    return Rest(network, place, passed, entered[0])


@contextmanager
def undisturbed(network: nn.Module, device: torch.device) -> Iterator[None]:
    """What is run within leaves no trace: random numbers and statistics are as before."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(before[name])


def agree(
    network: nn.Module, rest: nn.Module, place: Place, images: Tensor, features: Tensor
) -> str | None:
    """Why `rest` of `features` is not what `network` makes of `images`; None where it is.

    In the mode that the network is in. What is trained must not be before the boundary, and what is
    drawn at random must be the same both ways.
    """
    seen: list[Tensor] = []

    def keep(value: Any) -> Any:
        seen.append(value)
        return value.clone()

    outcomes = []
    with torch.enable_grad():
        for whole in (True, False):
            # Both begin with the same random numbers.
            with undisturbed(network, images.device):
                if whole:
                    with changed(network, place, keep):
                        logits = network(images)
                else:
                    logits = rest(features.clone())
                drawn = torch.rand((), device=images.device)
                state = torch.cat([logits.new_zeros(0).float(), *_statistics(network)])
                outcomes.append((logits.detach(), drawn, state))
    if len(seen) != 1:
        return f"module {place.name!r} runs {len(seen)} times"
    if seen[0].requires_grad:
        return f"something before the output of {place.name!r} is trained"
    if not _close(seen[0], features):
        return f"what is before the output of {place.name!r} is not the same every time"
    (logits, drawn, state), (other, also_drawn, other_state) = outcomes
    if logits.shape != other.shape or not _close(logits, other) or not _close(state, other_state):
        return f"the part behind {place.name!r} does not work alone"
    if not torch.equal(drawn, also_drawn):
        return f"random numbers are drawn before {place.name!r}"
    return None


def _statistics(network: nn.Module) -> list[Tensor]:
    return [buffer.float().flatten() for buffer in network.buffers()]


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    if not one.numel():
        return True
    exact = one.dtype == torch.float32 == other.dtype
    limit = (TOLERANCE if exact else TOLERANCE_HALF) * max(1.0, float(one.detach().abs().max()))
    # Not "no larger": what is not a number is not close.
    return float((one.detach().float() - other.detach().float()).abs().max()) <= limit


def _replay(outputs: list[Any]) -> Callable[..., Any]:
    following = iter(outputs)
    return lambda *_arguments, **_named: next(following)


def _checked(value: Any, place: Place, batch: int) -> Tensor:
    if not isinstance(value, Tensor) or value.dim() < 2 or value.shape[0] != batch:
        got = (
            f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        )
        side = "takes" if place.before else "gives"
        raise ValueError(f"module {place.name!r} {side} {got}, expected a tensor ({batch}, ...)")
    return value
