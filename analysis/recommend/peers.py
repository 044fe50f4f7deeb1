"""Lines to paste for timm's and torchvision's own classes, where they can express a method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mixbench.analysis.recommend.settings import (
    Settings,
    condition,
    loss_of_soft,
    methods_of,
    switch,
)

Lines = tuple[list[str], list[str]]
"""Lines to paste (none where a library can't express it), and what differs or why it can't."""

_TIMM_DIFFERS = (
    "needs an even batch, mixes it in place, draws from numpy's global state, pairs a batch with "
    "its reverse"
)
_TORCHVISION_DIFFERS = (
    "draws once for the batch, from torch's global state; pairs each image with the one before it"
)
_ERASING_DIFFERS = "draws the aspect on a logarithmic scale; the paper's is uniform"


@dataclass(frozen=True)
class _Pair:
    """MixUp, CutMix, or one of the two drawn anew: what both libraries have.

    Attributes:
        mixup, cutmix: alpha; None where it is not used.
        cutmix_share: The probability of CutMix where both are used.
        prob: The probability of mixing.
        per_sample: Whether strength and box are drawn for each image.
        corrected: Whether CutMix's labels weigh by the clipped box.
    """

    mixup: float | None
    cutmix: float | None
    cutmix_share: float
    prob: float
    per_sample: bool
    corrected: bool

    @property
    def is_both(self) -> bool:
        return self.mixup is not None and self.cutmix is not None


def timm(settings: Settings) -> Lines:
    """Return the lines for timm: `Mixup`, or its Random Erasing."""
    if problem := _problem(settings):
        return [], [problem]
    if settings.method == "random_erasing":
        return _timm_erasing(settings)
    pair = _pair(settings)
    if isinstance(pair, str):
        return [], [pair]
    alphas = f"mixup_alpha={pair.mixup or 0.0}, cutmix_alpha={pair.cutmix or 0.0}"
    share = f", switch_prob={pair.cutmix_share:g}" if pair.is_both else ""
    mode = "elem" if pair.per_sample else "batch"
    labels = "" if pair.corrected else ", correct_lam=False"
    loss_import, loss_line = loss_of_soft(settings)
    lines = [
        "from timm.data import Mixup",
        loss_import,
        "",
        "mix = Mixup(",
        f'    {alphas}{share}, prob={pair.prob}, mode="{mode}"{labels},',
        f"    label_smoothing={settings.label_smoothing}, num_classes={settings.classes},",
        ")",
        "",
        "# for each batch:",
        *switch("mix", settings),
        "images, soft = mix(images, labels)",
        loss_line,
    ]
    return lines, [_TIMM_DIFFERS]


def torchvision(settings: Settings) -> Lines:
    """Return the lines for torchvision's transforms v2: CutMix, MixUp, RandomErasing."""
    if problem := _problem(settings):
        return [], [problem]
    if settings.method == "random_erasing":
        return _torchvision_erasing(settings)
    pair = _pair(settings)
    if isinstance(pair, str):
        return [], [pair]
    if settings.loss == "bce":
        return [], ["gives batches that aren't mixed index labels, which bce can't take"]
    if pair.per_sample:
        return [], ["draws once for the batch, not for each image (per_sample)"]
    if not pair.corrected:
        return [], ["weighs labels by the clipped box (labels=area)"]
    classes = f"num_classes={settings.classes}"
    mixers = [
        f"v2.{name}(alpha={alpha}, {classes})"
        for name, alpha in (("MixUp", pair.mixup), ("CutMix", pair.cutmix))
        if alpha is not None
    ]
    mix = mixers[0]
    if pair.is_both:
        share = pair.cutmix_share
        mix = f"v2.RandomChoice([{', '.join(mixers)}], p=[{1 - share:g}, {share:g}])"
    if pair.prob < 1:
        mix = f"v2.RandomApply([{mix}], p={pair.prob})"
    smoothing = f", label_smoothing={settings.label_smoothing}" if settings.label_smoothing else ""
    apply = "images, labels = mix(images, labels)"
    lines = [
        "from torch.nn.functional import cross_entropy",
        "from torchvision.transforms import v2",
        "",
        f"mix = {mix}",
        "",
        "# for each batch:",
        *([apply] if settings.is_always else [f"if {condition(settings)}:", f"    {apply}"]),
        f"loss = cross_entropy(model(images), labels{smoothing})",
    ]
    return lines, [_TORCHVISION_DIFFERS]


def _problem(settings: Settings) -> str:
    if settings.features:
        return "has no mixing of features behind a frozen backbone"
    if not settings.is_simple:
        return f"has no schedule such as {settings.schedule}"
    return ""


def _pair(settings: Settings) -> _Pair | str:
    """Return what both libraries have of a method, or why they have nothing of it."""
    parameters = settings.parameters
    methods = methods_of(settings)
    if settings.method in ("mixup", "cutmix"):
        members: list[Mapping[str, Any]] = [{"name": settings.method, **parameters}]
    elif settings.method == "choice" and sorted(str(one["name"]) for one in methods) == [
        "cutmix",
        "mixup",
    ]:
        members = methods
    else:
        names = [settings.method, *(str(one["name"]) for one in methods)]
        return f"has no {settings.method}" + (f" of {', '.join(names[1:])}" if methods else "")
    for one in members:
        if one.get("placement", "clipped") != "clipped":
            return f"has no boxes with placement {one['placement']}"
        if one.get("min_area", 0.0) > 0 or one.get("max_area", 1.0) < 1:
            return "has no bounds of the box's area (min_area, max_area)"
        if methods and (one.get("prob", 1.0) < 1 or bool(one.get("per_sample")) != _each(settings)):
            return "has one probability and one way of drawing for both methods"
    alphas = {str(one["name"]): float(one.get("alpha", 1.0)) for one in members}
    weights = parameters.get("weights") or [1.0] * len(members)
    of_cutmix = sum(
        weight
        for one, weight in zip(members, weights, strict=True)
        if one["name"] == "cutmix" and len(members) > 1
    )
    return _Pair(
        alphas.get("mixup"),
        alphas.get("cutmix"),
        of_cutmix / sum(weights) if len(members) > 1 else 1.0,
        float(parameters.get("prob", 1.0)),
        _each(settings),
        all(one.get("labels", "area") == "area" for one in members),
    )


def _each(settings: Settings) -> bool:
    return bool(settings.parameters.get("per_sample", False))


def _timm_erasing(settings: Settings) -> Lines:
    if problem := _erasing_problem(settings):
        return [], [problem]
    wanted = settings.parameters
    prob = wanted.get("prob", 0.5)
    lines = [
        "from timm.data.random_erasing import RandomErasing",
        "",
        "erase = RandomErasing(",
        f"    probability={prob:g}, min_area={wanted.get('min_area', 0.02):g}, "
        f"max_area={wanted.get('max_area', 0.4):g},",
        f'    min_aspect={wanted.get("min_aspect", 0.3):g}, mode="const", device="cpu",',
        ")",
        "",
        "# for each batch, normalised:",
        "images = erase(images)",
    ]
    short = f're_prob={prob:g}, re_mode="const"'
    note = f"create_transform({short}) erases at most a third of an image"
    return lines, [_ERASING_DIFFERS, note]


def _torchvision_erasing(settings: Settings) -> Lines:
    if problem := _erasing_problem(settings):
        return [], [problem]
    wanted = settings.parameters
    areas = f"({wanted.get('min_area', 0.02):g}, {wanted.get('max_area', 0.4):g})"
    aspect = wanted.get("min_aspect", 0.3)
    lines = [
        "from torchvision.transforms import v2",
        "",
        f"erase = v2.RandomErasing(p={wanted.get('prob', 0.5):g}, scale={areas}, "
        f"ratio=({aspect:g}, {1 / aspect:.3g}))",
        "",
        "# for each image, normalised, in the data set's transform:",
        "image = erase(image)",
    ]
    return lines, [_ERASING_DIFFERS, "given a batch, it erases one box in all of its images"]


def _erasing_problem(settings: Settings) -> str:
    if settings.parameters.get("fill", "mean") not in ("mean", 0, 0.0):
        return f"fills with 0, the mean, not with {settings.parameters['fill']}"
    if not settings.is_always:
        return f"has no schedule such as {settings.schedule}"
    if not settings.parameters.get("per_sample", True):
        return "draws for each image, not once for the batch"
    return ""
