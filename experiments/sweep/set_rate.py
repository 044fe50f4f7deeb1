"""Set the learning rate in the text of a sweep's YAML, and leave all else as it is written."""

from __future__ import annotations

from typing import Any

import yaml

from mixbench.experiments import yaml_file
from mixbench.experiments.errors import UserError

_KEY = "training.learning_rate"
_PATHS = (("training", "learning_rate"), (_KEY,))


def with_rate(text: str, rate: float, scale: str | None = None) -> str:
    """Return the YAML with `training.learning_rate` in `fixed`, the rest to the letter.

    scale: the size of the sweep whose own `fixed` is looked at first. UserError where the sweep
    varies the rate itself, or has it in a place that can't be edited.
    """
    top = yaml.compose(text, Loader=yaml.SafeLoader)
    sections = [top]
    if scale is not None:
        sections.insert(0, _at(top, ("scales", scale)))
    for section in sections:
        _check_no_axis(section)
    for section in sections:
        for path in _PATHS:
            node = _at(_at(section, ("fixed",)), path)
            if isinstance(node, yaml.ScalarNode):
                return _checked(_replaced(text, node, f"{rate:g}"), text, rate)
    for section in sections:
        training = _at(_at(section, ("fixed",)), ("training",))
        if isinstance(training, yaml.MappingNode) and training.value:
            return _checked(_inserted(text, training, f"learning_rate: {rate:g}"), text, rate)
    for section in sections:
        fixed = _at(section, ("fixed",))
        if isinstance(fixed, yaml.MappingNode) and fixed.value:
            return _checked(_inserted(text, fixed, f"{_KEY}: {rate:g}"), text, rate)
    raise UserError(f"--write: the sweep has no `fixed` to put {_KEY} into; set it to {rate:g}")


def _check_no_axis(section: yaml.Node | None) -> None:
    for name in ("grid", "zip", "tune.over"):
        axes = _at(section, tuple(name.split(".")))
        if any(_at(axes, path) is not None for path in (*_PATHS, ("training",))):
            raise UserError(
                f"--write: {_KEY} is not one number in this sweep: `{name}` varies `training`; "
                "write the rate there by hand"
            )


def _at(node: yaml.Node | None, path: tuple[str, ...]) -> yaml.Node | None:
    for key in path:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for name, value in node.value if name.value == key), None)
    return node


def _replaced(text: str, node: yaml.Node, new: str) -> str:
    return text[: node.start_mark.index] + new + text[node.end_mark.index :]


def _inserted(text: str, mapping: yaml.MappingNode, line: str) -> str:
    """Put an entry before the first one of a mapping."""
    first = mapping.value[0][0].start_mark
    joint = ", " if mapping.flow_style else "\n" + " " * first.column
    return text[: first.index] + line + joint + text[first.index :]


def _checked(new: str, old: str, rate: float) -> str:
    """Return the new text if it says the same but for the rate."""
    before, after = yaml_file.value(old), yaml_file.value(new)
    if _rates(after) and _without(before) == _without(after) and rate in _rates(after):
        return new
    raise UserError(f"--write: {_KEY} can't be changed in this file; set it to {rate:g} by hand")


def _rates(part: Any) -> list[Any]:
    """Return every value that a key for the rate has, at any depth."""
    if isinstance(part, list):
        return [rate for item in part for rate in _rates(item)]
    if not isinstance(part, dict):
        return []
    here = [value for key, value in part.items() if key in ("learning_rate", _KEY)]
    return here + [rate for value in part.values() for rate in _rates(value)]


def _without(part: Any) -> Any:
    if isinstance(part, list):
        return [_without(item) for item in part]
    if not isinstance(part, dict):
        return part
    left = {k: _without(v) for k, v in part.items() if k not in ("learning_rate", _KEY)}
    return {key: value for key, value in left.items() if value != {}}
