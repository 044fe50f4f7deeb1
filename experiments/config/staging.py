"""The section `staging` of a configuration: its phases, checked and in one way of being written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from pydantic import model_validator

from mixbench import augmentations
from mixbench.augmentations.registry import identifying
from mixbench.experiments.errors import UserError, unknown
from mixbench.experiments.section import Section, as_number
from mixbench.experiments.staging import moments, spans
from mixbench.experiments.staging.moments import Moment
from mixbench.experiments.staging.named import NAMED, phases_of
from mixbench.experiments.staging.values import SCHEDULED, SHAPES, changes, method_at

KEYS = ("from", "to", "every", "method", *SCHEDULED)
_LOOKS = 100
"""At how many places of a phase values are checked that change together."""


class StagingConfig(Section):
    """A schedule: the phases in which images are mixed; outside them none are.

    Phases have the keys of `KEYS`. In a resolved configuration `from` and `to` are always given, a
    `method` has all its parameters, and what changes nothing is left out.
    """

    name: str | None = None
    phases: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _known(self) -> StagingConfig:
        if self.name is not None and self.name not in NAMED:
            raise ValueError(str(unknown("schedule", self.name, NAMED)))
        if self.name is None and "phases" not in self.model_fields_set:
            raise ValueError(
                f"expected the name of a schedule ({', '.join(NAMED)}) or phases, got neither"
            )
        return self


def resolved(
    staging: StagingConfig | None,
    augmentation: Mapping[str, Any],
    epochs: int,
    steps_per_epoch: int,
    unfreezings: Sequence[Moment] | None,
) -> StagingConfig | None:
    """`staging` as it is kept for a run with this method; None where nothing would be staged.

    steps_per_epoch: as far as it is known before the images are read. unfreezings: when more of the
    network is trained; None where that is not known yet.
    Raises UserError, which names the phase and the key, for anything that makes no sense.
    """
    if staging is None:
        return None
    named = {name: _canonical(phases_of(name, augmentation), augmentation) for name in NAMED}
    if staging.name is None or "phases" in staging.model_fields_set:
        phases = _canonical(staging.phases, augmentation)
        if staging.name is not None and phases != named[staging.name]:
            raise UserError(
                f"staging: got the name {staging.name!r} with other phases, expected either a name "
                "or phases"
            )
    else:
        phases = named[staging.name]
    spans.check(phases, epochs, steps_per_epoch, unfreezings)
    if phases == named["always"]:
        return None
    if augmentation["name"] == "none" and not any("method" in phase for phase in phases):
        return None
    # The same phases are the same run, whether they were called by their name or written out.
    name = next((name for name, known in named.items() if known == phases), None)
    return StagingConfig(name=name, phases=phases)


def identity(phases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What identifies a run of resolved phases, whatever parameters a method got since."""
    return [
        {key: identifying(value) if key == "method" else value for key, value in phase.items()}
        for phase in phases
    ]


def methods(
    augmentation: Mapping[str, Any], staging: StagingConfig | None
) -> list[tuple[str, augmentations.Method]]:
    """Every method of a run with the section that it is from."""
    if staging is None:
        return [("augmentation", augmentations.create(**augmentation))]
    return [
        (
            f"staging.phases[{number}].method" if "method" in phase else "augmentation",
            method_at(phase, augmentation, 0.0),
        )
        for number, phase in enumerate(staging.phases)
    ]


def _canonical(
    given: Sequence[Mapping[str, Any]], augmentation: Mapping[str, Any]
) -> tuple[dict[str, Any], ...]:
    """Phases in the one way of being written; UserError where a key or a value is wrong."""
    starts = [_moment(number, phase, "from") for number, phase in enumerate(given)]
    made = []
    before: Moment = 0.0
    for number, (phase, following) in enumerate(zip(given, [*starts[1:], 1.0], strict=False)):
        where = f"staging.phases[{number}]"
        for key in phase:
            if key not in KEYS:
                raise unknown(f"key of {where}", key, KEYS)
        start = starts[number]
        end = _moment(number, phase, "to")
        end = following if end is None else end
        if end is None:
            raise UserError(f"{where}.to: missing, expected `to`, or `from` in the phase after it")
        own = _mixed(where, phase, augmentation)
        made.append(
            {"from": before if start is None else start, "to": end, **_every(where, phase), **own}
        )
        before = end
    return tuple(made)


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


def _mixed(where: str, phase: Mapping[str, Any], augmentation: Mapping[str, Any]) -> dict[str, Any]:
    """The method of a phase and its values, without those that it has anyway."""
    made: dict[str, Any] = {}
    if "method" in phase:
        try:
            method = resolve_section(phase["method"])
        except ValueError as error:
            raise UserError(f"{where}.method: {error}") from None
        if method != augmentation:
            made["method"] = method
    own = made.get("method", augmentation)
    if own["name"] == "none":
        # Nothing is mixed, whatever the values: methods may be compared with it under one staging.
        return made
    rules = {field.name: field.metadata["rule"] for field in fields(augmentations.create(**own))}
    for key in SCHEDULED:
        if key not in phase:
            continue
        if key not in own:
            has = ", ".join(name for name in SCHEDULED if name in own)
            raise UserError(f"{where}.{key}: {own['name']} has no {key}, only {has} can be staged")
        value = _value(f"{where}.{key}", phase[key], own[key], rules[key])
        if value != own[key]:
            made[key] = value
    _check_values(where, made, augmentation)
    return made


def _value(where: str, given: Any, own: float, rule: Any) -> Any:
    """A number, or a change between two; `own` is the method's value."""
    if not isinstance(given, Mapping):
        return _number(where, given, rule)
    for key in given:
        if key not in ("from", "to", "shape"):
            raise unknown(f"key of {where}", key, ("from", "to", "shape"))
    if not given.keys() & {"from", "to"}:
        raise UserError(f"{where}: got {dict(given)!r}, expected a number, or `from` or `to`")
    shape = given.get("shape", "linear")
    if shape not in SHAPES:
        raise unknown(f"{where}.shape", shape, SHAPES)
    first, last = (
        _number(f"{where}.{key}", given[key], rule) if key in given else own
        for key in ("from", "to")
    )
    return first if first == last else {"from": first, "to": last, "shape": shape}


def _number(where: str, given: Any, rule: Any) -> float:
    try:
        return float(rule.check(as_number(given)))
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def _check_values(where: str, phase: Mapping[str, Any], augmentation: Mapping[str, Any]) -> None:
    """UserError for values that are allowed one by one but not together."""
    looks = _LOOKS if len(changes(phase)) > 1 else 1
    try:
        for look in range(looks + 1):
            method_at(phase, augmentation, look / looks)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def resolve_section(section: Any) -> dict[str, Any]:
    """A method with all its parameters, from its name or a mapping with a `name`."""
    if isinstance(section, str):
        section = {"name": section}
    if not isinstance(section, Mapping) or "name" not in section:
        raise ValueError("a name with parameters, such as {name: cutmix, alpha: 1.0}")
    parameters = {str(key): value for key, value in section.items() if key != "name"}
    return {"name": section["name"], **augmentations.resolve(section["name"], parameters)}
