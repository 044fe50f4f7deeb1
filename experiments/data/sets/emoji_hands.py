"""Emoji drawn by two hands: which of Google's drawings belongs to one of Twitter's?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.data.pairs.emoji import Emoji, EmojiDataset

INFO = DatasetInfo(
    name="emoji_hands",
    title="emoji as Twitter and as Google draw them, in pairs",
    channels=3,
    size=32,
    classes=0,
    train=1_525,
    test=381,
    flip=False,
    crop_padding=0,
    targets=("pairs",),
    second="image",
    source="npm's emoji-datasource-twitter and -google, or $MIXBENCH_DATA",
)


class _EmojiHands(EmojiDataset):
    name = INFO.name

    def pairs(self, emoji: Emoji) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return emoji.on_white("twitter"), emoji.on_white("google")


DATASET = _EmojiHands()
