"""Read YAML files of users: safely, and as people mean what they write.

Numbers are those of YAML 1.2: 010 is ten, 1e-3 is a number, 24:00:00 and 2026-01-31 are text. Keys
are text. Refused, with the line: keys that are given twice, decimal commas, values that hold
themselves, tags beyond plain data, and files that are not UTF-8 (or UTF-16 that says so).
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

import yaml

from mixbench.experiments.errors import UserError
from mixbench.experiments.text import first_line
from mixbench.experiments.yaml_nodes import TAG, check

_REWORDED = {
    "'\\t' that cannot start": "found character '\\t', a tab; indent with spaces",
    "expected <block end>": "a line that does not fit those above it: look at its indentation",
    "mapping values are not allowed": "a colon that does not fit: look at the indentation, or "
    "put the text in quotes",
    "could not find expected ':'": "expected a colon, as in key: value",
    "but found another document": "more than one document (---), expected one",
}
"""What PyYAML says, in words that help."""
_HELPER = "x-"
"""Keys at the top of a file that begin so are for anchors, and are left out."""
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def load(path: Path, expected: str) -> dict[str, Any]:
    """Return the mapping in a YAML file; UserError, with the line, for anything else.

    expected: what the file should hold, to follow "expected" in a message. Keys at the top that
    begin with "x-" are left out: they are there for anchors.
    """
    try:
        content = value(_decoded(path))
    except yaml.YAMLError as error:
        raise UserError(f"{path}{_line(error)}: {reason(error)}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {first_line(error)}") from None
    if not isinstance(content, dict):
        came = "nothing" if content is None else f"a {_kind(content)}"
        raise UserError(f"{path}: got {came}, expected {expected}")
    return {key: part for key, part in content.items() if not key.startswith(_HELPER)}


def value(text: str) -> Any:
    """Return the value of a YAML text; yaml.YAMLError where it is none."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        check(node)
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        # What PyYAML raises where a tag, such as !!int, is given to a text that is no number.
        raise yaml.YAMLError(f"a value that its tag does not allow: {error}") from None


def reason(error: yaml.YAMLError) -> str:
    """Return why a text is not the YAML that is read here, in a few words."""
    if isinstance(error, yaml.reader.ReaderError):
        return f"the character {chr(error.character)!r}, expected a text file"
    text = str(getattr(error, "problem", None) or first_line(error))
    return next((words for part, words in _REWORDED.items() if part in text), text)


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"line {line} is not {encoding.upper()}: byte {content[error.start]:#04x}; save the "
            "file as UTF-8"
        ) from None


def _line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f", line {mark.line + 1}" if mark else ""


def _kind(content: Any) -> str:
    return {list: "list", str: "text", bool: "truth value"}.get(type(content), "number")


class _Loader(yaml.SafeLoader):
    """The safe loader for nodes that were checked, with numbers as YAML 1.2 has them."""

    def construct_number(self, node: yaml.ScalarNode) -> int:
        """Return a whole number: leading zeros are not octal."""
        text = self.construct_scalar(node).replace("_", "").lower()
        sign = -1 if text.startswith("-") else 1
        digits = text.lstrip("+-")
        base = {"0b": 2, "0o": 8, "0x": 16}.get(digits[:2], 10)
        return sign * int(digits, base)

    def construct_decimal(self, node: yaml.ScalarNode) -> float:
        """Return a float; -0.0 as 0.0, since the same setting must have one key."""
        return self.construct_yaml_float(node) + 0.0


_Loader.add_constructor(f"{TAG}int", _Loader.construct_number)
_Loader.add_constructor(f"{TAG}float", _Loader.construct_decimal)
# YAML 1.1 reads 24:00:00 as a number to the base of 60, 2026-01-31 as a date, and wants a dot in a
# float. To a user these are a time and a name, and 1e-3 is a number too.
_OTHER = tuple(TAG + kind for kind in ("int", "float", "timestamp", "value"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OTHER]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    f"{TAG}int",
    re.compile(r"[-+]?(?:0b[01][01_]*|0o[0-7][0-7_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|[0-9][0-9_]*)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    f"{TAG}float",
    re.compile(
        r"[-+]?(?:(?:\d[\d_]*\.[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+)$"
        r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)
