"""What pydantic found wrong, in mixbench's words: the field, what came and what is allowed."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from mixbench.experiments.errors import unknown
from mixbench.experiments.section import section_in


def in_words(error: ValidationError, of: type[BaseModel]) -> str:
    """All problems of what was to be an `of`, on one line."""
    found = error.errors()
    # Where a member of a list is wrong, pydantic counts it as missing.
    places = {item["loc"][:end] for item in found for end in range(len(item["loc"]))}
    shown = [i for i in found if i["type"] != "too_short" or i["loc"] not in places]
    return "; ".join(dict.fromkeys(_problem(item, of) for item in shown))


def _problem(item: Any, of: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        *path, key = item["loc"]
        section: Any = of
        for part in path:
            section = section_in(section.model_fields[part].annotation)
        place = f"key of {'.'.join(map(str, path))}" if path else "section"
        return str(unknown(place, key, section.model_fields))
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
    return f"{where}: got {item['input']!r}, expected {expected}"
