"""Emoji as Twitter draws them, and their names. Flags are left out: their names are a matter of
knowledge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.data.pairs.emoji import FLAGS, Emoji, EmojiDataset
from mixbench.experiments.data.pairs.texts import counts_of

INFO = DatasetInfo(
    name="emoji_names",
    title="emoji as Twitter draws them, with their names",
    channels=3,
    size=32,
    classes=0,
    train=1_308,
    test=327,
    flip=False,
    crop_padding=0,
    targets=("pairs",),
    second="text",
    source="npm's emoji-datasource-twitter and -google, or $MIXBENCH_DATA",
)


class _EmojiNames(EmojiDataset):
    name = INFO.name

    def pairs(self, emoji: Emoji) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        # Of two with the same name the first is kept: no name is in both parts.
        kept = {
            name: number
            for number, name in reversed(list(enumerate(emoji.names)))
            if emoji.categories[number] != FLAGS
        }
        numbers = np.sort(list(kept.values()))
        names = [emoji.names[number] for number in numbers]
        return emoji.on_white("twitter")[numbers], counts_of(names)


DATASET = _EmojiNames()
