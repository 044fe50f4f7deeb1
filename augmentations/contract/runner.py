"""Check a method against every promise of the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from mixbench.augmentations.contract.case import Case
from mixbench.augmentations.contract.promise import PROPERTIES, Broken, Property
from mixbench.augmentations.method import Method


@dataclass(frozen=True)
class Finding:
    """The result of one property.

    Attributes:
        name: The property's name.
        promise: The sentence that must be true.
        verdict: "ok", "broken", "not asked" if the method makes no such promise, or "not tried" if
            there is no such device.
        reason: What is broken, in a sentence.
        case: The batch on which it is broken, in words.
    """

    name: str
    promise: str
    verdict: str
    reason: str = ""
    case: str = ""


def _cases() -> Iterator[dict[str, object]]:
    """Yield every size, batch, dtype, layout, pairing and mode; the usual batch comes first."""
    yield {}
    yield {"per_sample": True}
    sizes = [(1, 1), (16, 64), (64, 16), (7, 9), (1, 5), (5, 1), (8, 8), (32, 32), (16, 24)]
    batches = [2, 7, 1, 3, 7, 2, 7, 1, 3]
    dtypes = [torch.float32, torch.bfloat16, torch.float16]
    pairings = ["permute", "derange", "roll", "flip"]
    for number, (size, batch) in enumerate(zip(sizes, batches, strict=True)):
        yield {
            "size": size,
            "batch": batch,
            "channels": 1 + number % 3,
            "dtype": dtypes[number % 3],
            "channels_last": number % 2 == 1,
            "per_sample": number % 2 == 0,
            "prob": (1.0, 0.5)[number // 2 % 2],
            "pairing": pairings[number % 4],
            "seed": number,
        }
    yield {"size": (224, 224), "batch": 2, "per_sample": True, "channels_last": True}


CASES: tuple[dict[str, object], ...] = tuple(_cases())
"""The cases of `check_method`, as arguments of `Case`."""


def check_method(
    make: Callable[..., Method],
    properties: Iterable[Property] | None = None,
    devices: Iterable[str] | None = None,
) -> tuple[Finding, ...]:
    """Check every property on every case, and report the first case that breaks it.

    Seeds are fixed, so the findings are reproducible. Exceptions of the method become findings.

    Args:
        make: Creates the method for `prob`, `per_sample` and `pairing`; see `Case`.
        properties: The properties to check; None for all.
        devices: The devices to mix on; None for the CPU, and CUDA if there is a GPU.

    Returns:
        One finding per property, in the order of the properties.

    Examples:
        >>> from functools import partial
        >>> import mixbench
        >>> from mixbench.augmentations import contract
        >>> properties = [contract.PROPERTIES["prob_zero"]]
        >>> make = partial(mixbench.create, "mixup")
        >>> [finding] = contract.check_method(make, properties, ["cpu"])
        >>> finding.promise, finding.verdict
        ('prob=0 is the identity', 'ok')
    """
    properties = PROPERTIES.values() if properties is None else properties
    if devices is None:
        devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    devices = tuple(devices)
    usual = _usual_size(make)
    cases = [replace(Case(make, size=usual), **described) for described in CASES]  # type: ignore[arg-type]
    return tuple(_try(make, one, cases, devices) for one in properties)


def _usual_size(make: Callable[..., Method]) -> tuple[int, int]:
    """Return the size of the usual batch, doubled until it is large enough for the parameters."""
    usual = Case(make).size
    for scale in (1, 2, 4, 8, 16):
        size = (scale * usual[0], scale * usual[1])
        case = Case(make, size=size)
        try:
            case.sample(case.images())
        except Exception as error:
            if not _too_small(case, error):
                break
        else:
            return size
    return usual


def _try(
    make: Callable[..., Method], asked: Property, cases: Sequence[Case], devices: tuple[str, ...]
) -> Finding:
    try:
        if not asked.applies(make()):
            return Finding(asked.name, asked.promise, "not asked")
    except Exception as error:
        return Finding(asked.name, asked.promise, "broken", f"making the method {in_words(error)}")
    if asked.device is not None:
        devices = tuple(device for device in devices if device == asked.device)
        if not devices:
            return Finding(asked.name, asked.promise, "not tried", f"no {asked.device} device")
    for device in devices:
        for number, described in enumerate(cases):
            if asked.once and number >= 2:
                break
            case = replace(described, device=device)
            try:
                asked(case)
            except Broken as error:
                return Finding(asked.name, asked.promise, "broken", str(error), str(case))
            except Exception as error:
                if number >= 2 and _too_small(case, error):
                    continue
                return Finding(asked.name, asked.promise, "broken", in_words(error), str(case))
    return Finding(asked.name, asked.promise, "ok")


def _too_small(case: Case, error: Exception) -> bool:
    """Tell whether the method refuses these images because of a parameter, as it may."""
    # Names with the dot of a parameter, those of nested methods included.
    names = [case.method().name, *(method.name for method in _parts(case.method()))]
    return isinstance(error, ValueError) and str(error).startswith(tuple(f"{n}." for n in names))


def _parts(method: Method) -> Iterator[Method]:
    for part in getattr(method, "methods", ()):
        yield part
        yield from _parts(part)


def in_words(error: Exception) -> str:
    """Describe an exception as the end of a sentence, on one line."""
    first = str(error).strip().split("\n")[0]
    return f"raises {type(error).__name__}" + (f": {first}" if first else "")
