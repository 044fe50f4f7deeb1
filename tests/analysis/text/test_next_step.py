"""The next step: finish, mend the training, decide, use."""

from __future__ import annotations

from typing import Any

import pytest

from mixbench.analysis.statistics.contrasts import Contrast
from mixbench.analysis.statistics.metrics import ACCURACY
from mixbench.analysis.statistics.recommendation import Advice, Option, Regime, Word
from mixbench.analysis.text.next_step import Standing, next_step


def advice(*words: Word) -> Advice:
    names = ("cutmix", "mixup")
    options = [Option(n, n, word, None, False) for n, word in zip(names, words, strict=False)]
    return Advice(ACCURACY, "replicate", (Regime("", "none", tuple(options)),))


@pytest.mark.parametrize(
    ("words", "state", "text", "command"),
    [
        ([Word.USE], {"failed": 2, "left": 1}, "2 runs failed", "mixbench retry mine"),
        ([Word.USE], {"left": 1, "regime": ["x"]}, "1 run left to do", "mixbench sweep mine"),
        ([Word.USE], {"regime": ["under-fitted"]}, "can't be judged", "mixbench find-lr YAML"),
        ([Word.UNKNOWN], {}, "A second replicate", "mixbench sweep mine"),
        ([Word.USE, Word.UNDECIDED], {}, "for CutMix into", "mixbench recommend mine"),
        ([Word.AVOID, Word.UNDECIDED], {}, "would decide on MixUp", "mixbench sweep mine"),
        ([Word.USE, Word.AVOID], {}, "(tune: in the YAML)", "mixbench recommend mine"),
        (
            [Word.UNDECIDED],
            {"is_small_test": True},
            "dataset.folds: 5 in the YAML",
            "mixbench sweep mine",
        ),
        ([Word.AVOID], {}, "Stay as you are", "mixbench list augmentations"),
    ],
)
def test_the_first_of_what_is_left(
    words: list[Word], state: dict[str, Any], text: str, command: str
) -> None:
    found = next_step(advice(*words), Standing("mine", "mixbench sweep mine", **state))
    assert text in found.text and found.command == command


def test_what_was_tuned_is_not_to_be_tuned_again() -> None:
    now = Standing("mine", "mixbench sweep mine", is_tuned=True)
    assert "tune:" not in next_step(advice(Word.USE), now).text


def test_a_large_difference_is_not_called_small() -> None:
    def undecided(name: str, difference: float, half: float) -> Option:
        low, high = difference - half, difference + half
        contrast = Contrast(
            name, "none", "", 5, difference, low=low, high=high, margin=0.01, more_replicates=700
        )
        return Option(name, name, Word.UNDECIDED, contrast, False)

    def said(*options: Option) -> str:
        found = Advice(ACCURACY, "replicate", (Regime("", "none", options),))
        return next_step(found, Standing("mine", "mixbench sweep mine")).text

    large, small = undecided("mixstyle", 0.18, 0.2), undecided("mixup", 0.008, 0.06)
    # 5 * (0.2 / 0.18) ** 2 = 6.2: two more exclude 0 at the same spread.
    assert said(large) == (
        "About 2 more replicates in the YAML would decide on MixStyle where the difference is "
        "large, if it stays so."
    )
    assert said(large, small).endswith(
        "It would take more than 100 more replicates to decide on small differences of MixUp."
    )
    assert said(small).endswith("on MixUp: so small a difference is hardly worth it.")
