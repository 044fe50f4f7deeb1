"""Pydantic's errors in mixbench's words: the field, what came and what is allowed."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from mixbench.augmentations.parameters import decimal_comma
from mixbench.experiments.errors import unknown
from mixbench.experiments.section import section_in


def to_message(error: ValidationError, model: type[BaseModel]) -> str:
    """Return all errors of a value that is not a valid `model`, on one line."""
    errors = error.errors()
    # Where a member of a list is wrong, pydantic counts it as missing.
    parents = {item["loc"][:end] for item in errors for end in range(len(item["loc"]))}
    shown = [item for item in errors if item["type"] != "too_short" or item["loc"] not in parents]
    return "; ".join(dict.fromkeys(_message(item, model) for item in shown))


def _message(item: Any, model: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        *path, key = item["loc"]
        section: Any = model
        for part in path:
            section = section_in(section.model_fields[part].annotation)
        what = f"key of {'.'.join(map(str, path))}" if path else "section"
        valid = [field.alias or name for name, field in section.model_fields.items()]
        return str(unknown(what, key, valid))
    if item["type"] == "missing":
        return f"{where}: missing"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        # Our own errors already say what came, where a value came.
        return f"{where}: {message}" if where else message
    context = item.get("ctx") or {}
    expected = {
        "literal_error": f"one of {context.get('expected')}",
        "greater_than": f"a number above {context.get('gt')}",
        "greater_than_equal": f"a number of at least {context.get('ge')}",
        "less_than": f"a number below {context.get('lt')}",
        "less_than_equal": f"a number of at most {context.get('le')}",
        "int_parsing": "a whole number",
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_parsing": "a number",
        "float_type": "a number",
        "finite_number": "a finite number",
        "bool_parsing": "true or false",
        "bool_type": "true or false",
        "string_type": "a name",
        "tuple_type": "a list",
        "too_short": f"at least {context.get('min_length')}",
        "model_type": "a mapping of keys to values",
        "dict_type": "a mapping of keys to values",
    }.get(item["type"], message)
    return f"{where}: got {item['input']!r}, expected {expected}{decimal_comma(item['input'])}"
