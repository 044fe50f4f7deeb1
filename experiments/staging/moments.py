"""Points in a training, as a configuration names them, and the steps at which they come.

    0.25               a fraction of all steps
    epoch 10           after ten epochs
    plateau            when validation accuracy has not risen for 3 epochs
    plateau 5          the same, for 5 epochs
    plateau 3 by 0.5   the same, but at half of the steps at the latest (or "by epoch 10")
    unfreeze 1         when the first of the `transfer.unfreeze` comes

All but a plateau are known before the training begins. A plateau comes at the end of an epoch and
depends on the validation accuracies up to it alone, so a training that goes on from a checkpoint
finds the same plateau.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

PATIENCE = 3
ALLOWED = (
    'a fraction from 0 to 1, "epoch N", "plateau", "plateau N", "plateau N by FRACTION" or '
    '"unfreeze N"'
)

Moment = float | str
"""A fraction, or one of the words above with its number."""


def parse(value: Any) -> Moment:
    """Return a moment in canonical form; ValueError with what came and what is allowed."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    if isinstance(value, str):
        text = " ".join(value.split())
        head, by, latest = text.partition(" by ")
        if by and head.startswith("plateau"):
            limit, plateau = _fixed(latest), _counted(head)
            if limit is not None and plateau is not None:
                return f"{plateau} by {limit}"
        elif not by:
            moment = _counted(text) or _fixed(text)
            if moment is not None:
                return moment
    raise ValueError(f"got {value!r}, expected {ALLOWED}")


def _counted(text: str) -> str | None:
    """Return a word with its number, from 1."""
    match = re.fullmatch(r"(epoch|plateau|unfreeze) ?(\d{1,6})?", text)
    if match is None:
        return None
    number = match[2] or (PATIENCE if match[1] == "plateau" else 0)
    return f"{match[1]} {int(number)}" if int(number) >= 1 else None


def _fixed(text: str) -> Moment | None:
    """Return a fraction or an epoch."""
    if re.fullmatch(r"\d*\.?\d+(e-?\d+)?|\d+\.", text) and 0 <= float(text) <= 1:
        return float(text)
    return _counted(text) if text.startswith("epoch") else None


def is_fixed(moment: Moment) -> bool:
    """Return whether the moment's step is known before the training begins."""
    return isinstance(moment, float) or moment.startswith("epoch")


def latest(moment: Moment) -> Moment | None:
    """Return the moment at which a plateau comes at the latest, where one is given."""
    if isinstance(moment, float):
        return None
    _, by, limit = moment.partition(" by ")
    return parse(limit) if by else None


def step_of(
    moment: Moment,
    steps: int,
    steps_per_epoch: int,
    *,
    since: int = 0,
    accuracies: Sequence[float] = (),
    unfreezings: Sequence[int | None] = (),
) -> int | None:
    """Return the step (from 0) before which `moment` comes, or None where it is not known yet.

    A plateau with a latest moment that has not come yet is taken to come then.

    steps: all of the training. since: the step from which a plateau is looked for. accuracies: the
    validation accuracy at the end of each epoch so far. unfreezings: the step of each unfreezing.
    """
    if isinstance(moment, float):
        return round(moment * steps)
    kind, number, *_ = moment.split(" ")
    if kind == "epoch":
        return int(number) * steps_per_epoch
    if kind == "unfreeze":
        return unfreezings[int(number) - 1] if int(number) <= len(unfreezings) else None
    limit = latest(moment)
    at_most = None if limit is None else step_of(limit, steps, steps_per_epoch)
    best = -1.0
    waited = 0
    for epoch, accuracy in enumerate(accuracies):
        # Only epochs that began at or after `since` say something about what began then.
        if epoch * steps_per_epoch < since:
            continue
        waited = 0 if accuracy > best else waited + 1
        best = max(best, accuracy)
        if waited >= int(number):
            step = (epoch + 1) * steps_per_epoch
            return step if at_most is None else min(step, at_most)
    return at_most


def steps_of(
    moments: Sequence[Moment],
    steps: int,
    steps_per_epoch: int,
    accuracies: Sequence[float] = (),
) -> list[int | None]:
    """Return the steps of moments that come one after another.

    A plateau is looked for from the moment before it on. A step that is not known yet keeps those
    after it unknown.
    """
    result: list[int | None] = []
    since: int | None = 0
    for moment in moments:
        if since is not None:
            since = step_of(moment, steps, steps_per_epoch, since=since, accuracies=accuracies)
        result.append(since)
    return result
