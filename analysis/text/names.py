"""Names as a person writes them: "CutMix at prob 0.5", "45 epochs, no flips"."""

from __future__ import annotations

from collections.abc import Sequence

from mixbench.analysis.tables.labels import JOIN

NO_MIXING = "no mixing"
_METHODS = {
    "none": NO_MIXING,
    "mixup": "MixUp",
    "c_mixup": "C-Mixup",
    "cutmix": "CutMix",
    "cutout": "Cutout",
    "random_erasing": "Random Erasing",
    "ricap": "RICAP",
    "fmix": "FMix",
    "resizemix": "ResizeMix",
    "smoothmix": "SmoothMix",
    "gridmix": "GridMix",
    "gridmask": "GridMask",
    "cowmask": "CowMask",
    "saliencymix": "SaliencyMix",
    "mosaic": "Mosaic",
    "spec_augment": "SpecAugment",
    "manifold_mixup": "Manifold MixUp",
    "moex": "MoEx",
    "attentive_cutmix": "Attentive CutMix",
    "snapmix": "SnapMix",
    "puzzlemix": "PuzzleMix",
    "transmix": "TransMix",
    "mixstyle": "MixStyle",
    "classmix": "ClassMix",
    "copy_paste": "Copy-Paste",
    "sk_mixup": "SK Mixup",
    "patchup": "PatchUp",
    "regmixup": "RegMixup",
    "recursivemix": "RecursiveMix",
    "decoupled_mixup": "Decoupled MixUp",
    "trivial_augment": "TrivialAugment",
    "rand_augment": "RandAugment",
    "augmix": "AugMix",
}
_ALGORITHMS = {
    "fixmatch": "FixMatch",
    "mixmatch": "MixMatch",
    "ict": "ICT",
    "mean_teacher": "mean teacher",
    "pseudo_labels": "pseudo-labels",
}
_ALONG = {
    "axis=width": "along the width",
    "axis=height": "along the height",
    "axis=both": "in boxes",
}
_TUNED = {"tuned": "tuned", "default": "untuned"}
"""Of cells whose setting is chosen, and of the same ones with their own."""
_YES_NO = {
    "staging always": "always",
    "flip yes": "flips",
    "flip no": "no flips",
    "crop_padding 0": "no crops",
    "label_smoothing 0": "no label smoothing",
    "sound default": "spectrograms",
    "sound waveform": "waveforms",
    "mixing both": "both sides",
    "mixing images": "images alone",
    "mixing mixgen": "as MixGen",
    "mixing within": "within domains",
    "mixing between": "between domains",
}
_BEHIND = {"epochs": "epochs", "train_size": "training images", "image_size": "pixels"}
"""Fields whose value is written before their name."""


def method_name(label: str) -> str:
    """Return a cell's label as it stands in a sentence.

    Examples:
        >>> method_name("cutmix prob=0.5 α=1"), method_name("none"), method_name("mine · epochs 5")
        ('CutMix at prob 0.5, α 1', 'no mixing', 'mine · 5 epochs')
        >>> method_name("cutmix tuned"), method_name("mixup default")
        ('tuned CutMix', 'untuned MixUp')
        >>> method_name("cutmix axis=width prob=0.5")
        'CutMix along the width at prob 0.5'
    """
    first, *rest = label.split(JOIN)
    name, *parameters = first.split(" ")
    if name in _METHODS:
        tuned = "".join(f"{_TUNED[part]} " for part in parameters if part in _TUNED)
        parameters = [part for part in parameters if part not in _TUNED]
        along = "".join(f" {_ALONG[part]}" for part in parameters if part in _ALONG)
        parameters = [part for part in parameters if part not in _ALONG]
        shown = ", ".join(part.replace("=", " ") for part in parameters)
        preposition = "at" if all("=" in part for part in parameters) else "with"
        first = f"{tuned}{_METHODS[name]}{along}" + (f" {preposition} {shown}" if shown else "")
    else:
        first = setting_name(first)
    return JOIN.join([first, *map(setting_name, rest)])


def regime_name(title: str) -> str:
    """Return what the cells of a block have in common, in words.

    Examples:
        >>> regime_name("epochs 45 · crop_padding 2 · flip yes"), regime_name("cutmix · dose 0.5")
        ('45 epochs, crops of 2, flips', 'CutMix, dose 0.5')
    """
    first, *rest = title.split(JOIN)
    words = setting_name(first)
    return ", ".join([method_name(first) if words == first else words, *map(setting_name, rest)])


def told_apart(titles: Sequence[str]) -> tuple[str, list[str]]:
    """Return the parts that all titles share, to be said once, and what is left of each title.

    Examples:
        >>> told_apart(["cutmix · dose 0.25", "cutmix · dose 0.5"])
        ('cutmix', ['dose 0.25', 'dose 0.5'])
    """
    parts = [title.split(JOIN) for title in titles]
    shared = [part for part in parts[0] if all(part in each for each in parts)]
    if len(parts) == 1 or any(len(each) == len(shared) for each in parts):
        return "", list(titles)
    left = [JOIN.join(part for part in each if part not in shared) for each in parts]
    return JOIN.join(shared), left


def setting_name(part: str) -> str:
    """Return one setting in words.

    Examples:
        >>> setting_name("epochs 45"), setting_name("fixmatch cutmix ratio=3")
        ('45 epochs', 'FixMatch with CutMix ratio=3')
        >>> setting_name("staging first_75"), setting_name("staging always")
        ('first 75 %', 'always')
        >>> setting_name("teacher trained with mixup")
        'teacher trained with MixUp'
    """
    key, _, value = part.partition(" ")
    before, _, last = part.rpartition(" ")
    if before.endswith("trained with") and last in _METHODS:
        return f"{before} {_METHODS[last]}"
    if key in _ALGORITHMS:
        mixing, _, rest = value.partition(" ")
        words = f"with {_METHODS[mixing]} {rest}" if mixing in _METHODS else value
        return f"{_ALGORITHMS[key]} {words}".strip()
    if key in _BEHIND and value.replace(".", "").isdigit():
        number = f"{int(value):,}" if value.isdigit() else value
        return f"{number} {_BEHIND[key]}"
    if key == "crop_padding" and value.isdigit() and value != "0":
        return f"crops of {value}"
    if key == "batch_size" and value.isdigit():
        return f"batches of {value}"
    end, _, share = value.partition("_")
    if key == "staging" and end in ("first", "last") and share.isdigit():
        return f"{end} {share} %"
    if key == "dose":
        return part.replace("_", " ")
    return _YES_NO.get(part, part)
