"""The parameter `depths` of methods that mix inside a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mixbench.augmentations.parameters import parameter

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


def depths_parameter(default: tuple[int, ...], doc: str) -> Any:
    """Declare `depths`: 0 is the input, k the output of the network's k-th stage."""
    return parameter(default, f"{doc}: 0 is the input, k the network's k-th stage", at_least=0)


def sort_depths(method: Any) -> None:
    """Sort the depths of a method whose parameters are being checked.

    Their order changes nothing, and the same run must have the same key.

    Raises:
        ValueError: A depth is given twice.
    """
    depths = tuple(sorted(method.depths))
    if len(set(depths)) < len(depths):
        raise ValueError(f"{method.name}.depths: got {list(depths)}, expected each depth once")
    object.__setattr__(method, "depths", depths)


def choose_depth(draws: Draws, depths: tuple[int, ...]) -> int:
    """Draw one depth for the batch, uniformly, on the host; a single one needs no draw."""
    return depths[0] if len(depths) == 1 else depths[draws.choose([1.0] * len(depths))]


def at_depth(plan: Plan, depth: int) -> Plan:
    """Return the plan that is applied at this depth; 0: to the images."""
    from mixbench.augmentations.plans.at_depth import AtDepth

    return AtDepth(plan, depth) if depth else plan
