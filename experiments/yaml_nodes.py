"""Check the nodes of a YAML text before they become values: all that would surprise its author."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import yaml

TAG = "tag:yaml.org,2002:"
DEEPEST = 50
MOST_VALUES = 1_000_000
"""Of a file with its aliases written out: a few lines of them can stand for billions."""
LONGEST_NUMBER = 400

_PLAIN = frozenset(TAG + kind for kind in ("null", "bool", "int", "float", "str", "seq", "map"))
_MERGE = f"{TAG}merge"
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_DIGITS = re.compile(r"[-+]?\d+")


def check(node: yaml.Node) -> None:
    """Raise yaml.YAMLError, with the line, unless the nodes are plain data that is read as meant.

    The tags of scalar keys are set to text: `on`, `no` and `1e3` are names there.
    """
    _measured(node, (), {})


def _measured(node: yaml.Node, above: tuple[yaml.Node, ...], sizes: dict[int, int]) -> int:
    """Check a node and all below it; return how many nodes it stands for."""
    if any(node is other for other in above):
        raise _error(node, "a value that holds itself (an alias inside its own anchor)")
    if id(node) in sizes:
        return sizes[id(node)]
    if len(above) >= DEEPEST:
        raise _error(node, f"nested too deeply, expected at most {DEEPEST} levels")
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(node)
        return 1
    if node.tag not in _PLAIN:
        raise _bad_tag(node)
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
    elif isinstance(node, yaml.SequenceNode):
        _check_commas_in_list(node, above[-1] if above else None)
    size = 1
    for child in _children(node):
        size += _measured(child, (*above, node), sizes)
        if size > MOST_VALUES:
            raise _error(
                node, f"more than {MOST_VALUES:,} values with the aliases (*name) written out"
            )
    sizes[id(node)] = size
    return size


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.tag != _MERGE:
                yield key
            yield value
    else:
        yield from node.value


def _check_scalar(node: yaml.ScalarNode) -> None:
    if node.tag == _MERGE:
        # Only a key merges.
        node.tag = f"{TAG}str"
    if node.tag not in _PLAIN:
        raise _bad_tag(node)
    if node.tag == f"{TAG}int" and len(node.value) > LONGEST_NUMBER:
        raise _error(node, f"a number of {len(node.value)} digits")
    bad = _CONTROL.search(node.value)
    if bad:
        raise _error(node, f"the character {bad[0]!r} in a text, expected printable ones")


def _check_keys(node: yaml.MappingNode) -> None:
    seen = set()
    previous: tuple[yaml.Node, yaml.Node] | None = None
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _error(key, "a list or a mapping as a key, expected a name")
        if previous is not None and node.flow_style:
            _check_comma(*previous, key, value)
        if key.tag == f"{TAG}null" and not key.value:
            raise _error(key, "a value without a key")
        if key.tag in (f"{TAG}int", f"{TAG}float"):
            raise _error(
                key, f"the key {key.value} is a number, expected a name (in quotes it is one)"
            )
        if key.tag in (f"{TAG}bool", f"{TAG}null"):
            key.tag = f"{TAG}str"
        if key.value in seen:
            raise _error(key, f"the key {key.value!r} is given twice")
        seen.add(key.value)
        previous = key, value


def _check_comma(name: yaml.Node, whole: yaml.Node, rest: yaml.Node, nothing: yaml.Node) -> None:
    """Refuse {alpha: 0,5}, which YAML reads as {alpha: 0, 5: null}."""
    if (
        _is_number(whole)
        and _DIGITS.match(str(rest.value))
        and nothing.tag == f"{TAG}null"
        and not nothing.value
        and whole.end_mark.index + 1 == rest.start_mark.index
    ):
        # A comma before three digits may be meant either way.
        thousands = f" (or {whole.value}{rest.value})" if len(str(rest.value)) == 3 else ""
        raise _error(
            rest,
            f"{name.value}: got {whole.value},{rest.value}, expected a decimal point, such as "
            f"{whole.value}.{rest.value}{thousands}",
        )


def _check_commas_in_list(node: yaml.SequenceNode, above: yaml.Node | None) -> None:
    """Refuse [0,5, 1,0]: whole numbers in pairs, apart from each other by a space."""
    items = node.value
    if not node.flow_style or len(items) < 4 or len(items) % 2 or not all(map(_is_number, items)):
        return
    if isinstance(above, yaml.MappingNode) and any(
        value is node and str(key.value).endswith(("seed", "seeds")) for key, value in above.value
    ):
        return
    gaps = [
        after.start_mark.index - before.end_mark.index
        for before, after in itertools.pairwise(items)
    ]
    if set(gaps[::2]) == {1} and min(gaps[1::2]) > 1:
        first = f"{items[0].value}.{items[1].value}"
        raise _error(
            node,
            f"numbers with decimal commas, expected points, such as {first}; for whole numbers put "
            "a space behind each comma",
        )


def _is_number(node: yaml.Node) -> bool:
    is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
    return is_plain and bool(_DIGITS.fullmatch(node.value))


def _bad_tag(node: yaml.Node) -> yaml.YAMLError:
    return _error(
        node,
        f"could not determine a constructor for the tag {node.tag!r}, expected plain values, lists "
        "and mappings",
    )


def _error(node: yaml.Node, problem: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
