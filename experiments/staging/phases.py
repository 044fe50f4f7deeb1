"""The phases of a schedule: checked, and brought into one form.

A resolved phase has its `from` and `to`, its `method` has all parameters, and it sets nothing that
the method has anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mixbench import augmentations
from mixbench.augmentations.registry import identifying
from mixbench.experiments.errors import UserError, unknown
from mixbench.experiments.section import as_number
from mixbench.experiments.staging import moments, spans
from mixbench.experiments.staging.doses import Dose
from mixbench.experiments.staging.methods import method_at, resolve_method
from mixbench.experiments.staging.moments import Moment
from mixbench.experiments.staging.named import NAMED, phases_of
from mixbench.experiments.staging.values import SCHEDULED, SHAPES, changing
from mixbench.experiments.text import plural

KEYS = ("from", "to", "every", "method", *SCHEDULED)
Phase = dict[str, Any]

_SAMPLES = 100
"""Points of a phase at which values that change at the same time are checked."""


@dataclass(frozen=True)
class Phases:
    """Resolved phases, with the name of the schedule that they are, if it has one."""

    name: str | None
    phases: tuple[Phase, ...]


def resolve_phases(
    asked: str | Dose | None,
    written: Sequence[Mapping[str, Any]] | None,
    augmentation: Mapping[str, Any],
    length: spans.Length,
) -> Phases | None:
    """Return the phases of a run with this augmentation; None where they change nothing.

    asked: the name of a schedule, or a dose. written: the phases as the user wrote them; None for
    those of `asked`.

    Raises UserError, which names the phase and the key.
    """
    if isinstance(asked, Dose):
        return _of_dose(asked, written, augmentation, length)
    named = {name: _resolved(phases_of(name, augmentation), augmentation) for name in NAMED}
    if written is None:
        phases = named[asked or "always"]
    else:
        phases = _resolved(written, augmentation)
        if asked is not None and phases != named[asked]:
            raise UserError(
                f"staging: got the name {asked!r} with other phases, expected either a name or "
                "phases"
            )
    spans.check_order(phases, length)
    if phases == named["always"]:
        return None
    if augmentation["name"] == "none" and not any("method" in phase for phase in phases):
        return None
    # The same phases are the same run, whether they were called by their name or written out.
    return Phases(next((name for name in NAMED if named[name] == phases), None), phases)


def _of_dose(
    dose: Dose,
    written: Sequence[Mapping[str, Any]] | None,
    augmentation: Mapping[str, Any],
    length: spans.Length,
) -> Phases | None:
    always = _resolved(phases_of("always", augmentation), augmentation)
    phases = always
    if augmentation["name"] != "none":
        phases = _resolved(dose.phases(augmentation, length.epochs), augmentation)
    # What was resolved before has the phases too.
    if written is not None and _resolved(written, augmentation) != phases:
        raise UserError("staging: got match_dose beside phases, expected one of the two")
    _check_steps(dose, phases, length)
    return None if phases == always else Phases(dose.name, phases)


def _check_steps(dose: Dose, phases: Sequence[Phase], length: spans.Length) -> None:
    """Raise UserError where a phase has no step, or a ramp only one."""
    of_phases = spans.PhaseSpans(phases, length.steps, length.steps_per_epoch).at((), ())
    for phase, (start, end) in zip(phases, of_phases, strict=True):
        if end - start < (2 if changing(phase) else 1):
            raise UserError(
                f"staging.match_dose: got {dose.share!r} with shape {dose.shape!r}, expected a "
                "dose of which each part has a step, and a ramp two: the training has "
                f"{plural(length.steps, 'step')}"
            )


def identifying_phases(phases: Sequence[Mapping[str, Any]]) -> list[Phase]:
    """Return what identifies a run of resolved phases, whatever parameters a method got since."""
    return [
        {key: identifying(value) if key == "method" else value for key, value in phase.items()}
        for phase in phases
    ]


def _resolved(
    written: Sequence[Mapping[str, Any]], augmentation: Mapping[str, Any]
) -> tuple[Phase, ...]:
    starts = [_moment(number, phase, "from") for number, phase in enumerate(written)]
    resolved = []
    before: Moment = 0.0
    for number, (phase, following) in enumerate(zip(written, [*starts[1:], 1.0], strict=False)):
        where = f"staging.phases[{number}]"
        for key in phase:
            if key not in KEYS:
                raise unknown(f"key of {where}", key, KEYS)
        start = starts[number]
        end = _moment(number, phase, "to")
        end = following if end is None else end
        if end is None:
            raise UserError(f"{where}.to: missing, expected `to`, or `from` in the phase after it")
        values = _method_and_values(where, phase, augmentation)
        span = {"from": before if start is None else start, "to": end}
        resolved.append({**span, **_every(where, phase), **values})
        before = end
    return tuple(resolved)


def _moment(number: int, phase: Mapping[str, Any], key: str) -> Moment | None:
    if key not in phase:
        return None
    try:
        return moments.parse(phase[key])
    except ValueError as error:
        raise UserError(f"staging.phases[{number}].{key}: {error}") from None


def _every(where: str, phase: Mapping[str, Any]) -> dict[str, int]:
    if "every" not in phase:
        return {}
    every = phase["every"]
    if isinstance(every, bool) or not isinstance(every, int) or every < 2:
        raise UserError(f"{where}.every: got {every!r}, expected a whole number of at least 2")
    return {"every": every}


def _method_and_values(
    where: str, phase: Mapping[str, Any], augmentation: Mapping[str, Any]
) -> Phase:
    """Return the phase's method and values, without those that the run has anyway."""
    resolved: Phase = {}
    if "method" in phase:
        try:
            method = resolve_method(phase["method"])
        except ValueError as error:
            raise UserError(f"{where}.method: {error}") from None
        if method != augmentation:
            resolved["method"] = method
    parameters = resolved.get("method", augmentation)
    if parameters["name"] == "none":
        # Nothing is mixed, whatever the values: methods may be compared with it under one staging.
        return resolved
    declared = fields(augmentations.create(**parameters))
    rules = {field.name: field.metadata["rule"] for field in declared}
    for key in SCHEDULED:
        if key not in phase:
            continue
        if key not in parameters:
            valid = ", ".join(name for name in SCHEDULED if name in parameters)
            raise UserError(
                f"{where}.{key}: {parameters['name']} has no {key}, only {valid} can be staged"
            )
        value = _value(f"{where}.{key}", phase[key], parameters[key], rules[key])
        if value != parameters[key]:
            resolved[key] = value
    _check_values(where, resolved, augmentation)
    return resolved


def _value(where: str, written: Any, default: float, rule: Any) -> Any:
    """Return a number, or a change between two; `default` is the method's own value."""
    if not isinstance(written, Mapping):
        return _number(where, written, rule)
    for key in written:
        if key not in ("from", "to", "shape"):
            raise unknown(f"key of {where}", key, ("from", "to", "shape"))
    if not written.keys() & {"from", "to"}:
        raise UserError(f"{where}: got {dict(written)!r}, expected a number, or `from` or `to`")
    shape = written.get("shape", "linear")
    if shape not in SHAPES:
        raise unknown(f"{where}.shape", shape, SHAPES)
    first, last = (
        _number(f"{where}.{key}", written[key], rule) if key in written else default
        for key in ("from", "to")
    )
    return first if first == last else {"from": first, "to": last, "shape": shape}


def _number(where: str, written: Any, rule: Any) -> float:
    try:
        return float(rule.parse(as_number(written)))
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def _check_values(where: str, phase: Phase, augmentation: Mapping[str, Any]) -> None:
    """Raise UserError for values that are allowed one by one but not together."""
    samples = _SAMPLES if len(changing(phase)) > 1 else 1
    try:
        for sample in range(samples + 1):
            method_at(phase, augmentation, sample / samples)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
