"""The networks, by name, without torch.

Each of ours is a file in `mixbench.experiments.models.networks`; those of timm are `timm/NAME`.
`mixbench.experiments.models.build` builds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from mixbench.experiments.config import own_code
from mixbench.experiments.config.descriptions import read_descriptions
from mixbench.experiments.errors import UserError, unknown

NETWORKS = "mixbench.experiments.models.networks"
WITH_PATHS = "residual networks of timm, such as timm/resnet18, convnext_atto or vit_tiny"
"""Which networks have paths to drop, in words."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A network as `mixbench list` shows it."""

    name: str
    summary: str
    default_width: int
    stages: tuple[str, ...]
    """The modules whose outputs are at depth 1, 2, ..."""
    answers: str = "classes"
    """What it answers with: "classes", a "map" (B,K,H,W) of the images' size, or "boxes"."""


@cache
def our_networks() -> Mapping[str, ModelInfo]:
    """The networks that have a file in `mixbench.experiments.models.networks`, by name."""
    return read_descriptions(NETWORKS, ModelInfo)


def check_name(name: str) -> None:
    """UserError unless `name` is one of ours or `timm/NAME` with a name that timm knows.

    The name may have the tag of pretrained weights, as in `timm/resnet18.a1_in1k`.
    """
    if name in our_networks():
        return
    kind, slash, rest = name.partition("/")
    if kind == "timm" and slash:
        known: Iterable[str] = _timm_names()
        bare, dot, _ = rest.partition(".")
        if dot and bare in known:
            known = _tagged(bare)
        if rest not in known:
            near = unknown("timm model", rest, known)
            # The list of all names would not be one clear line.
            every = "timm.list_pretrained()" if dot else "timm.list_models()"
            raise UserError(f"{str(near).split(' valid:')[0]} (all names: {every})")
        return
    place = own_place(name)
    if place is not None:
        own_code.function_of(place, "model.name")
        return
    valid = [*our_networks(), *own_code.entry_points(own_code.NETWORKS)]
    raise unknown("model", name, [*valid, "timm/NAME", "package.module:function"])


def own_place(name: str) -> str | None:
    """Return `package.module:function` of a network of the user's own; None for others."""
    return None if name in our_networks() else own_code.place_of(name, own_code.NETWORKS)


def check_options(
    name: str, *, width: int | None, small_stem: bool, drop_path: float | None = None
) -> None:
    """UserError for an option that the network does not have."""
    is_timm = name.startswith("timm/")
    if is_timm and width is not None:
        raise UserError(f"width: got {width}, but timm models have a fixed width; leave it out")
    if small_stem and not is_timm:
        raise UserError(f"small_stem: {name} has a small stem already; it is for timm models")
    if drop_path is not None and not is_timm:
        raise UserError(f"drop_path: got {drop_path}, but {name} drops no paths; {WITH_PATHS} do")


def without_tag(name: str) -> str:
    """The name of a model without the tag of pretrained weights: `timm/resnet18`."""
    return name.partition(".")[0] if name.startswith("timm/") else name


def pretrained_name(name: str) -> str | None:
    """timm's name of the pretrained weights of model `timm/NAME`: `resnet18.a1_in1k`.

    Without a tag timm's first choice; None where timm has none.
    """
    import timm

    weights = timm.get_pretrained_cfg(name.removeprefix("timm/"))
    if weights is None or not weights.has_weights:
        return None
    return f"{without_tag(name).removeprefix('timm/')}.{weights.tag}"


@cache
def _tagged(bare: str) -> frozenset[str]:
    import timm

    return frozenset(timm.list_pretrained(f"{bare}.*"))


@cache
def _timm_names() -> frozenset[str]:
    # Slow to import, so only when a timm model is asked for.
    import timm

    return frozenset(timm.list_models())
