"""Lines to paste: a method in mixbench's drop-in, in timm's classes and in torchvision's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mixbench.analysis.recommend import peers
from mixbench.analysis.recommend.settings import Settings, loss_of_soft, methods_of, switch

Defaults = Mapping[str, Mapping[str, Any]]
"""method -> parameter -> default."""
_INSIDE = {"manifold_mixup", "mixstyle", "moex", "patchup"}
_BY_LOSS = {
    *("attentive_cutmix", "augmix", "decoupled_mixup", "puzzlemix", "recursivemix", "regmixup"),
    *("snapmix", "transmix"),
}
"""Methods with a loss of their own, and those that look at the network or at earlier batches."""
_NORMALISED = {"augmix", "rand_augment", "trivial_augment"}
"""Methods that must know how images were normalised."""
_MISSING = object()


@dataclass(frozen=True)
class Snippet:
    """How to use a method with one library.

    Attributes:
        library: "mixbench", "timm" or "torchvision".
        lines: To paste; empty where the library can't express it.
        notes: What differs, or why it can't.
    """

    library: str
    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()


def snippets(settings: Settings, defaults: Defaults | None = None) -> tuple[Snippet, ...]:
    """Return the lines for each library.

    They expect `model`, a batch `images` (normalised) and `labels` (classes), and, where they are
    needed, `mean` and `std` of the images, and `epoch` (from 0) and `epochs` of a schedule.

    Args:
        settings: Of the cell.
        defaults: Parameters that are as they are here are left out.
    """
    if settings.method == "none":
        return ()
    found = [_of_mixbench(settings, defaults or {})]
    for library, lines_of in (("timm", peers.timm), ("torchvision", peers.torchvision)):
        lines, notes = lines_of(settings)
        found.append(Snippet(library, tuple(lines), tuple(notes)))
    return tuple(found)


def _of_mixbench(settings: Settings, defaults: Defaults) -> Snippet:
    create = f"mix = mixbench.create({_arguments(settings, defaults)})"
    yaml = f"staging: {settings.schedule}"
    if settings.features:
        note = "features are mixed in a sweep alone: transfer: {mixing: features}"
        return Snippet("mixbench", ("import mixbench", "", create), (note,))
    notes = []
    if not settings.is_simple:
        notes.append(f"the schedule runs in a sweep ({yaml}); these lines mix all the time")
    if settings.method == "cutout" and settings.size:
        notes.append(f"size is in pixels, of images of {settings.size}: scale it with yours")
    if _mixes_inside(settings):
        return Snippet("mixbench", tuple(_inside(settings, create)), tuple(notes))
    names = {settings.method, *_names(methods_of(settings))}
    scale = "" if _NORMALISED.isdisjoint(names) else f", normalisation={_scale(settings)}"
    if not _BY_LOSS.isdisjoint(names):
        if settings.label_smoothing or settings.loss == "bce":
            notes.append("criterion= of training_loss takes the training's own loss")
        lines = _by_loss(settings, create, names, scale)
        return Snippet("mixbench", tuple(lines), tuple(notes))
    smoothing = f", label_smoothing={settings.label_smoothing}" if settings.label_smoothing else ""
    loss_import, loss_line = loss_of_soft(settings)
    lines = [
        "import mixbench",
        loss_import,
        "",
        create,
        f"soften = mixbench.SoftTargets(mix, num_classes={settings.classes}{smoothing}{scale})",
        "",
        "# for each batch:",
        *switch("soften", settings),
        "images, soft = soften(images, labels)",
        loss_line,
    ]
    return Snippet("mixbench", tuple(lines), tuple(notes))


def _scale(settings: Settings) -> str:
    if settings.normalisation is None:
        return "(mean, std)"
    mean, std = map(list, settings.normalisation)
    return f"({mean}, {std})"


def _by_loss(settings: Settings, create: str, names: set[str], scale: str) -> list[str]:
    bank = "recursivemix" in names
    given = f"num_classes={settings.classes}{', bank=bank' if bank else ''}{scale}"
    return [
        "import mixbench",
        "",
        create,
        *(["bank = mixbench.Bank()"] if bank else []),
        "",
        "# for each batch:",
        f"loss = mixbench.training_loss(mix, model, images, labels, {given})",
    ]


def _inside(settings: Settings, create: str) -> list[str]:
    smoothing = f", label_smoothing={settings.label_smoothing}" if settings.label_smoothing else ""
    loss = "cross_entropy"
    if settings.loss == "bce":
        loss = "binary_cross_entropy"
        if settings.bce_threshold is not None:
            smoothing += f", threshold={settings.bce_threshold:g}"
    return [
        "import mixbench",
        "",
        create,
        "",
        "# for each batch:",
        f"batch = mix(images, labels, num_classes={settings.classes})",
        "with mixbench.mixing_inside(model, batch.plan):",
        "    logits = model(batch.images)",
        f"loss = batch.targets.{loss}(logits{smoothing})",
    ]


def _mixes_inside(settings: Settings) -> bool:
    return not _INSIDE.isdisjoint([settings.method, *_names(methods_of(settings))])


def _names(methods: list[Mapping[str, Any]]) -> list[str]:
    nested = [name for one in methods for name in _names(list(one.get("methods") or ()))]
    return [*(str(one["name"]) for one in methods), *nested]


def _arguments(settings: Settings, defaults: Defaults) -> str:
    known = defaults.get(settings.method, {})
    changed = {
        name: _without_defaults(value, defaults)
        for name, value in settings.parameters.items()
        if name not in known or known[name] != value
    }
    return ", ".join([repr(settings.method), *(f"{name}={v!r}" for name, v in changed.items())])


def _without_defaults(value: Any, defaults: Defaults) -> Any:
    """Leave the defaults out of a list of methods."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        return value
    return [
        {
            key: _without_defaults(part, defaults)
            for key, part in one.items()
            if key == "name" or defaults.get(str(one["name"]), {}).get(key, _MISSING) != part
        }
        for one in value
    ]
