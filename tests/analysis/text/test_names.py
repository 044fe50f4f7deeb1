"""Names as a person writes them."""

from __future__ import annotations

from mixbench.analysis.text.names import method_name
from mixbench.augmentations import registry

MADE_OF_OTHERS = {"choice", "compose"}


def test_every_method_has_a_name_of_its_own() -> None:
    methods = {name for name in registry.available() if registry.is_built_in(name)} - MADE_OF_OTHERS
    names = {name: method_name(name) for name in methods}
    assert not [name for name, shown in names.items() if shown == name]
    assert len(set(names.values())) == len(names) > 25
