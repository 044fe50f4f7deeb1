"""Read YAML files of users: safely, without duplicate keys, and with 1e-3 as a number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from mixbench.experiments.errors import UserError
from mixbench.experiments.text import first_line


def load(path: Path, expected: str) -> dict[str, Any]:
    """Return the mapping in a YAML file; UserError, with the line, for anything else.

    expected: what the file should hold, to follow "expected" in a message.
    """
    try:
        content = value(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise UserError(f"{path}: nested too deeply") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        reason = getattr(error, "problem", None) or first_line(error)
        raise UserError(f"{path}{line}: {reason}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected {expected}")
    return content


def value(text: str) -> Any:
    """Return the value of a YAML text; yaml.YAMLError where it is none."""
    return yaml.load(text, Loader=_StrictLoader)  # noqa: S506


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, which also refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 24:00:00 as a number to the base of 60, and wants a dot in a float. To a user
# 24:00:00 is a time, and 1e-3 is a number too.
_StrictLoader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"[-+]?(?:0b[01_]+|0[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$"),
    list("-+0123456789"),
)
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(?:(?:\d[\d_]*\.[\d_]*|\.[\d_]+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+)$"
        r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)
