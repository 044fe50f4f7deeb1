"""Name and describe schedules of mixing, and compute the planned probabilities.

A schedule is a list of phases, each a mapping: `from` and `to` (moments: a fraction of the
training, "epoch N", "plateau N", "unfreeze N"), `every`, `method`, and values of `prob` and the
like, constant or as `from`, `to` and `shape`. Outside all phases nothing is mixed.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NAME, PHASES = "staging.name", "staging.phases"
TOLD_BY_NAME = (PHASES, "staging.match_dose", "staging.shape")
"""Fields of a schedule that its name tells."""
ALWAYS = "always"
"""The name for no schedule, in a sweep where other runs have one."""
_SHORT = 30
"""Characters that a schedule without a name may take in a label; a longer one gets a number."""
_ABOUT = ("from", "to", "every", "method")
_SYMBOLS = {"alpha": "α", "min_area": "box from", "max_area": "box to"}

Phase = Mapping[str, Any]


def named(flat: Sequence[dict[str, Any]]) -> None:
    """Give every flattened configuration a `staging.name` that tells its schedule, in place.

    Only where one of them has a schedule: configurations that know none stay as they are.
    """
    if not any(config.get(PHASES) for config in flat):
        for config in flat:
            config.pop("staging", None)
        return
    names = _names(config[PHASES] for config in flat if unnamed(config))
    for config in flat:
        config.pop("staging", None)
        if unnamed(config):
            config[NAME] = names[config[PHASES]]
        config.setdefault(NAME, ALWAYS)
        config.setdefault(PHASES, None)


def unnamed(config: Mapping[str, Any]) -> bool:
    """Tell whether it has a schedule without a name."""
    return bool(config.get(PHASES)) and not config.get(NAME)


def _names(texts: Iterable[str]) -> dict[str, str]:
    """Return JSON text of the phases -> a short, unique name."""
    read = {text: json.loads(text) for text in texts}
    short = {text: in_short(phases) for text, phases in read.items()}
    # One phase that is all of the training would read as no schedule.
    short |= {text: in_words(read[text]) for text, name in short.items() if name == span({})}
    counts = Counter(short.values())
    # They mix at the same times, so the details must tell them apart.
    short = {
        text: name if counts[name] == 1 else in_words(read[text]) for text, name in short.items()
    }
    counts = Counter(short.values())
    names: dict[str, str] = {}
    for text, name in short.items():
        fits = len(name) <= _SHORT and counts[name] == 1
        number = 1 + sum(given.startswith("custom ") for given in names.values())
        names[text] = name if fits else f"custom {number}"
    return names


def in_short(phases: Sequence[Phase]) -> str:
    """Return when images are mixed, such as "0–60 %", without the details of the phases."""
    return ", ".join(span(phase) for phase in phases) or "never"


def in_words(phases: Sequence[Phase], method: str = "") -> str:
    """Return all phases with their details, such as "0–60 %; 60–100 %: prob 1 → 0"."""
    texts = []
    for phase in phases:
        about = _about(phase, method)
        texts.append(f"{span(phase)}: {', '.join(about)}" if about else span(phase))
    return "; ".join(texts) or "nothing is mixed"


def span(phase: Phase) -> str:
    """Return the start and the end of a phase."""
    first, last = phase.get("from", 0.0), phase.get("to", 1.0)
    if _is_number(first) and _is_number(last):
        return f"{_percent(first)}–{_percent(last)}\u00a0%"
    if last == 1:
        return f"from {_moment(first)}"
    if first == 0:
        return f"to {_moment(last)}"
    return f"{_moment(first)} to {_moment(last)}"


def moment_text(value: Any) -> str:
    """Return a moment as a person writes it: "50 %", "epoch 3", "plateau"."""
    return _moment(value)


def planned(phases: Sequence[Phase], prob: float, epochs: int) -> list[float] | None:
    """Return the planned probability of mixing in each epoch, the mean over the epoch.

    prob: the method's own. None if only the training decides when a phase begins or ends.
    """
    bounds = []
    for phase in phases:
        ends = [
            _epoch_of(phase.get(key, default), epochs)
            for key, default in (("from", 0.0), ("to", 1.0))
        ]
        if ends[0] is None or ends[1] is None:
            return None
        bounds.append((ends[0], min(ends[1], float(epochs))))
    return [
        sum(
            _share(phase, first, last, epoch, prob)
            for phase, (first, last) in zip(phases, bounds, strict=True)
        )
        for epoch in range(epochs)
    ]


def _share(phase: Phase, first: float, last: float, epoch: int, prob: float) -> float:
    """Return what a phase adds to the mean probability of an epoch; first, last: in epochs."""
    low, high = max(first, epoch), min(last, epoch + 1.0)
    if high <= low or (epoch - math.floor(first)) % int(phase.get("every") or 1):
        return 0.0
    middle = ((low + high) / 2 - first) / (last - first)
    return (high - low) * _value(phase.get("prob"), prob, middle)


def _value(given: Any, unscheduled: float, done: float) -> float:
    """Return a scheduled value. unscheduled: the method's. done: the part of the phase so far."""
    if given is None:
        return unscheduled
    if not isinstance(given, Mapping):
        return float(given)
    begin, end = float(given.get("from", unscheduled)), float(given.get("to", unscheduled))
    if given.get("shape") == "cosine":
        done = (1 - math.cos(math.pi * done)) / 2
    return begin + (end - begin) * done


def _epoch_of(moment: Any, epochs: int) -> float | None:
    """Return a moment in epochs, None for one that only the training decides."""
    if _is_number(moment):
        return float(moment) * epochs
    kind, _, number = str(moment).partition(" ")
    return float(number) if kind == "epoch" else None


def _about(phase: Phase, method: str) -> list[str]:
    texts = []
    other = phase.get("method")
    if isinstance(other, Mapping) and other.get("name") != method:
        texts.append(str(other.get("name")))
    every = int(phase.get("every") or 1)
    if every > 1:
        texts.append(f"every {_ordinal(every)} epoch")
    for key, value in phase.items():
        if key in _ABOUT or value is None:
            continue
        name = _SYMBOLS.get(key, key)
        if isinstance(value, Mapping):
            ends = [_plain(value[end]) if end in value else "own" for end in ("from", "to")]
            shape = f" ({value['shape']})" if value.get("shape") not in (None, "linear") else ""
            texts.append(f"{name} {ends[0]} → {ends[1]}{shape}")
        else:
            texts.append(f"{name} {_plain(value)}")
    return texts


def _moment(value: Any) -> str:
    if _is_number(value):
        return f"{_percent(value)} %"
    kind, _, rest = str(value).partition(" ")
    number, _, latest = rest.partition("by ")
    if kind == "plateau":
        return f"plateau (by {_latest(latest)})" if latest else "plateau"
    return f"unfreezing {number.strip()}" if kind == "unfreeze" else str(value)


def _latest(text: str) -> str:
    try:
        return _moment(float(text))
    except ValueError:
        return text


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


def _percent(value: float) -> str:
    return f"{round(value * 100, 1):g}"


def _plain(value: Any) -> str:
    return f"{value:g}" if _is_number(value) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
