"""A learning rate written into a YAML: the rest stays to the letter."""

from __future__ import annotations

import pytest

from mixbench.experiments import yaml_file
from mixbench.experiments.errors import UserError
from mixbench.experiments.sweep.set_rate import with_rate

CELLS = "grid: {augmentation: [none, cutmix]}\n"


@pytest.mark.parametrize(
    ("fixed", "line"),
    [
        ("  training: {epochs: 3}  # short\n", "  training: {learning_rate: 1e-05, epochs: 3}"),
        (
            "  training:\n    epochs: 3 # x\n",
            "  training:\n    learning_rate: 1e-05\n    epochs: 3",
        ),
        ("  training: {learning_rate: 0.1, epochs: 3}\n", "{learning_rate: 1e-05, epochs: 3}"),
        ("  training.learning_rate: 0.5 # was\n", "training.learning_rate: 1e-05 # was"),
        ("  dataset: digits\n", "  training.learning_rate: 1e-05\n  dataset: digits"),
    ],
)
def test_only_the_rate_changes(fixed: str, line: str) -> None:
    text = f"# mine\nname: a\nfixed:\n{fixed}{CELLS}"
    changed = with_rate(text, 1e-5)
    assert line in changed
    added = set(changed.splitlines()) ^ set(text.splitlines())
    assert all("learning_rate" in one or "training" in one for one in added)
    assert "1e-05" in str(yaml_file.value(changed))


def test_a_size_of_the_sweep_has_its_own() -> None:
    rate = "training: {learning_rate: 0.1}"
    text = f"fixed: {{{rate}}}\nscales:\n  quick: {{fixed: {{{rate}}}}}\n  big: {{}}\n"
    quick, big = (yaml_file.value(with_rate(text, 0.3, scale)) for scale in ("quick", "big"))
    assert quick["fixed"]["training"]["learning_rate"] == 0.1
    assert quick["scales"]["quick"]["fixed"]["training"]["learning_rate"] == 0.3
    assert big["fixed"]["training"]["learning_rate"] == 0.3


@pytest.mark.parametrize(
    "text",
    [
        "fixed: {dataset: digits}\ngrid: {training.learning_rate: [0.1, 0.2]}\n",
        "fixed: {dataset: digits}\ntune: {over: {training.learning_rate: [0.1, 0.2]}}\n",
        CELLS,
    ],
)
def test_where_it_is_no_single_number_it_is_left_to_the_user(text: str) -> None:
    with pytest.raises(UserError, match=r"--write: .*learning_rate"):
        with_rate(text, 0.2)
