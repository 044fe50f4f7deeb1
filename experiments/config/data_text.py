"""What a training sees of its images, in a sentence: size, fit, crops, flips."""

from __future__ import annotations

from mixbench.experiments.config import datasets
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.config.streams import REST
from mixbench.experiments.text import plural

_FITS = {
    "crop": "the middle of each picture",
    "pad": "all of each picture, with black borders",
    "stretch": "all of each picture, distorted",
}


def training_images(config: RunConfig) -> str:
    """Return what becomes of the training images of a resolved run."""
    height, width = config.dataset.sides
    parts = [f"training sees {height} x {width} pixels (height x width)"]
    crops, training = config.training.random_crops, config.training
    if crops is not None:
        parts.append(f"random crops of {_percent(crops[0])} to {_percent(crops[1])} % of the area")
        if datasets.has_files(config.dataset.name):
            parts[-1] += " of the full picture"
    if training.crop_padding:
        parts.append(f"moved by up to {training.crop_padding} pixels")
    if not crops and not training.crop_padding:
        parts.append("no random crops")
    parts.append("half of them mirrored" if training.flip else "none mirrored")
    fit = config.dataset.fit
    test = f"; {'tests see' if crops else 'an image is'} {_FITS[fit]}" if fit else ""
    return f"{', '.join(parts)}{test}"


def folds_text(name: str, folds: int, replicates: int, *, is_tuned: bool) -> str:
    """Return what the replicates of a data set with folds test on."""
    facts = datasets.with_folds(name, folds)
    repetitions, left = divmod(replicates, folds)
    tests = f"each image tests {repetitions} times" if repetitions > 1 else "each image tests once"
    if left and repetitions:
        tests += f", those of {plural(left, 'fold')} once more"
    elif left:
        tests = f"images of {plural(left, 'fold')} test once, the others never"
    text = (
        f"{folds} folds of {facts.train + facts.test:,} images: a replicate trains on about "
        f"{facts.train:,} and tests on {facts.test:,}; {tests}"
    )
    if left:
        text += f" ({plural(folds - left, 'more replicate')} would make it even)"
    if is_tuned:
        text += "; settings are tuned on images that test in some folds"
    return text


def _percent(share: float) -> str:
    return f"{100 * share:g}"


def stream_texts(config: RunConfig) -> list[str]:
    """Return what comes beside the labelled images of a run, a sentence for each stream."""
    texts = []
    for name, stream in (config.streams.named() if config.streams else {}).items():
        which = "all" if stream.size is None else f"{stream.size:,}"
        whose = stream.dataset
        if whose == REST:
            whose = f"what neither trains nor validates of {config.dataset.name}"
        texts.append(f"{name}: {which} images of {whose}, {stream.ratio:g} for each labelled one")
    return texts
