"""The measurements of `mixbench evaluate`: title, meaning, and the metrics that are shown.

A measurement without an entry here is shown with all its metrics.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mixbench.analysis.statistics.metrics import Metric


@dataclass(frozen=True)
class Shown:
    """A metric in the table of a measurement; context is shown, but not compared."""

    metric: Metric
    is_compared: bool = True


@dataclass(frozen=True)
class _Headline:
    """Metrics whose name, after the measurement's own, matches `pattern` as a whole.

    title: may say \\1 for what a group of the pattern matched.
    """

    pattern: str
    title: str
    percent: bool = True
    better: int = 1
    is_compared: bool = True


@dataclass(frozen=True)
class _Known:
    title: str
    meaning: str
    headlines: tuple[_Headline, ...]
    has_chance: bool = False


def _context(pattern: str, title: str, percent: bool = True) -> _Headline:
    return _Headline(pattern, title, percent, 0, is_compared=False)


_KNOWN = {
    "calibration": _Known(
        "Calibration",
        "How far confidence is from accuracy on the test set: as trained; scaled: with logits "
        "divided by a temperature; vector: with a factor and an offset for each class. Both are "
        "fitted on the validation split, and say what can be mended after training; vector scaling "
        "may change accuracy. The debiased error (a root of a mean square) and the NLL lead, "
        "because the ECE of perfect confidences is not 0: ECE by chance is what these confidences "
        "would show if all of them were right.",
        (
            _Headline("debiased", "Debiased error", better=-1),
            _Headline("nll", "NLL", percent=False, better=-1),
            _Headline("gap", "Conf − acc", better=0),
            _Headline("ece", "ECE", better=-1),
            _context("ece_by_chance", "ECE by chance"),
            _Headline("temperature", "Temperature", percent=False, better=0),
            _Headline("scaled/debiased", "Debiased error, scaled", better=-1),
            _Headline("scaled/nll", "NLL, scaled", percent=False, better=-1),
            _Headline("scaled/ece", "ECE, scaled", better=-1),
            _Headline("vector/debiased", "Debiased error, vector", better=-1),
            _Headline("vector/nll", "NLL, vector", percent=False, better=-1),
            _context("vector/accuracy", "Accuracy, vector"),
        ),
    ),
    "overfitting": _Known(
        "Overfitting",
        "Clean images that the network was trained on against the test set. The gaps are train "
        "minus test accuracy and test minus train NLL: above 0 is overfitting.",
        (
            _Headline("train/accuracy", "Train accuracy", better=0),
            _Headline("gap", "Gap", better=-1),
            _Headline("train/nll", "Train NLL", percent=False, better=0),
            _Headline("nll_gap", "NLL gap", percent=False, better=-1),
        ),
    ),
    "bias_variance": _Known(
        "Bias and variance",
        "The error of the runs of a cell, split at what they predict together: bias is how wrong "
        "that is (the noise of the labels included), variance how far single runs are from it. "
        "For the NLL and the Brier score both add up to the mean of the runs. For the 0/1 loss "
        "the common prediction is the majority's, the variance is how often a run differs from "
        "it, and the net variance what that adds to the error: where the majority is wrong, "
        "differing is good.",
        (
            _Headline("zero_one/bias", "Bias, 0/1", better=-1),
            _Headline("zero_one/variance", "Variance, 0/1", better=-1),
            _Headline("zero_one/net_variance", "Net variance, 0/1", better=-1),
            _Headline("log/bias", "Bias, NLL", percent=False, better=-1),
            _Headline("log/variance", "Variance, NLL", percent=False, better=-1),
            _Headline("brier/bias", "Bias, Brier", percent=False, better=-1),
            _Headline("brier/variance", "Variance, Brier", percent=False, better=-1),
        ),
    ),
    "hiding": _Known(
        "Hidden parts",
        "Accuracy where a growing part of the image is hidden, averaged from none of it to the "
        "largest part tried (area), over shapes and fills; retention is that divided by the "
        "accuracy with nothing hidden (clean). A method that cuts out or pastes rectangles is at "
        "home where rectangles are hidden: “favour” is how much better those are withstood than "
        "the other shapes, which is no robustness. “Home left out” is the mean without the shapes "
        "and fills that the method’s own training images show; below it stands the difference to "
        "the baseline on the same shapes and fills, as the means of two methods are not of the "
        "same. "
        "iOcclusion is how much of the gap between training and test images is left where the "
        "same is hidden of both, so that what the fill itself does cancels: near 1, hidden parts "
        "cost unseen images what they cost learnt ones; near 0, both are guessed. Where another "
        "image is what is there instead, a network may name that one, and fall below guessing.",
        (
            _context("clean", "Clean"),
            _Headline("area", "Area"),
            _Headline("retention", "Retention"),
            _Headline("rectangles/area", "Area, rectangles"),
            _Headline("others/area", "Area, others"),
            _Headline("favour", "Favour", better=0),
            _Headline("away/area", "Area, home left out"),
            _Headline("iocclusion", "Gap left (iOcclusion)", percent=False, better=0),
        ),
        has_chance=True,
    ),
    "corruption": _Known(
        "Common corruptions",
        "Accuracy on test images that are noisy, blurred, in bad weather or badly stored, mean "
        "over five severities. Retention is the mean over all corruptions divided by the accuracy "
        "on the same images as they are (clean). The calibration errors are means over the same "
        "images; scaled: with the temperature that clean validation images speak for. “Published” "
        "are the constants of CIFAR-10-C and ImageNet-C, “files” the published images themselves; "
        "their means are over the fifteen corruptions of the publications, so compare neither "
        "with the others. The mCE is the mean of errors over those of a reference.",
        tuple(
            headline
            for prefix, where in (("", ""), ("published/", ", published"), ("files/", ", files"))
            for headline in (
                _context(f"{prefix}clean", f"Clean{where}"),
                _Headline(f"{prefix}mean", f"All{where}"),
                _Headline(f"{prefix}mce", f"mCE{where}", better=-1),
                _Headline(f"{prefix}retention", f"Retention{where}"),
                _Headline(f"{prefix}(noise|blur|weather|digital)", rf"\1{where}"),
                _Headline(f"{prefix}debiased", f"Debiased error{where}", better=-1),
                _Headline(f"{prefix}nll", f"NLL{where}", percent=False, better=-1),
                _Headline(f"{prefix}scaled/debiased", f"Debiased error, scaled{where}", better=-1),
            )
        ),
        has_chance=True,
    ),
    "attack": _Known(
        "Attacks",
        "Accuracy where every value of an image, from 0 to 1, may be changed by up to ε to mislead "
        "the network: in one step along the gradient (FGSM) or in many (PGD, the stronger; APGD, "
        "with steps that adapt, the strongest), with random squares and no gradient, or as made "
        "for another network (transfer). “Masked” is the share of images that only the last two "
        "mislead. An attack that fails is no proof that another one would.",
        (
            _context("clean", "Clean"),
            _Headline("fgsm/(.+)", r"FGSM \1"),
            _Headline("pgd/(.+)", r"PGD \1"),
            _Headline("apgd/(.+)", r"APGD \1"),
            _Headline("squares/(.+)", r"Squares \1"),
            _Headline("transfer/(.+)", r"Transfer \1"),
            _Headline("worst/(.+)", r"All of them \1"),
            _Headline("masked/(.+)", r"Masked \1", better=0),
            _Headline("curve/(apgd|pgd)/half", r"Half at ε, \1", percent=False),
        ),
        has_chance=True,
    ),
    "patch": _Known(
        "Patches",
        "Accuracy with a square patch at a random place of each image. The universal one is one "
        "for all images and places, trained on validation images to mislead the network; the other "
        "is made for each image. The blank one is in the mean colour: it says what hiding that "
        "part costs by itself. The numbers are the patch's share of the image.",
        (
            _context("clean", "Clean"),
            _Headline("blank/(.+)", r"Blank \1"),
            _Headline("universal/(.+)", r"Universal \1"),
            _Headline("per_image/(.+)", r"One per image \1"),
        ),
        has_chance=True,
    ),
    "smoothness": _Known(
        "Smoothness",
        "How fast the answer changes around an image whose values are from 0 to 1: the norm of "
        "the loss's gradient; how far the boundary would be if the network were linear; "
        "predictions that Gaussian noise changes. They depend on the number of pixels, and the "
        "gradient on how sure the network is.",
        (
            _Headline("loss_gradient", "Loss gradient", percent=False, better=0),
            _Headline("distance", "Distance", percent=False),
            _Headline("flip/(.+)", r"Flips, noise \1", better=-1),
            _Headline("entropy", "Entropy, nats", percent=False, better=0),
        ),
    ),
    "boundary": _Known(
        "Decision boundaries",
        "Where the prediction changes, and how sharply: on the straight line from a test image to "
        "one of another class, and along the gradient, which finds a boundary nearby. Place is "
        "the share of the line until the first change; steepness how fast the gap between the two "
        "probabilities closes there, by the whole line or by the distance in pixels from 0 to 1; "
        "changes of the prediction along the line (1 is the least); third, the lines on which "
        "a class comes in between that neither end has. A network that is less sure is less "
        "steep by that alone; the place and the distance don't depend on it.",
        (
            _Headline("path/distance", "Distance by gradient", percent=False),
            _Headline("path/steepness", "Steepness there", percent=False, better=0),
            _Headline("line/place", "Place on the line", percent=False, better=0),
            _Headline("line/steepness", "Steepness on the line", percent=False, better=0),
            _Headline("line/entropy", "Entropy there, nats", percent=False, better=0),
            _Headline("line/changes", "Changes", percent=False, better=-1),
            _Headline("line/third", "Third", better=-1),
        ),
    ),
    "shift": _Known(
        "Shift",
        "Whether foreign images get less confidence, a smaller largest logit or less energy: those "
        "of a far data set, of a near one, and of classes that were left out of training, which "
        "are the nearest. AUROC is the chance that one of the test set scores more than a foreign "
        "one: 0.5 is guessing. FPR95 is the share of foreign images that pass where 95% of the own "
        "do: 95% is guessing. AUPR finds the foreign ones; guessing gives their share of the "
        "images. Where a column names neither set nor score, it is the far set and confidence.",
        (
            _Headline("auroc", "AUROC", percent=False),
            _Headline("fpr95", "FPR95", better=-1),
            _Headline("confidence", "Confidence there", better=-1),
            _context("own_confidence", "Confidence on own"),
            _Headline("(near|left_out)/confidence/auroc", r"AUROC, \1", percent=False),
            _Headline("(near|left_out)/confidence/fpr95", r"FPR95, \1", better=-1),
            _context("(far|near|left_out)/energy/auroc", r"AUROC, \1, energy", percent=False),
            _context("(far|near|left_out)/max_logit/auroc", r"AUROC, \1, max logit", percent=False),
            _context("(far|near|left_out)/confidence/aupr_out", r"AUPR, \1", percent=False),
        ),
    ),
    "localisation": _Known(
        "Localisation",
        "Whether the map of a class (Grad-CAM) shows where its object is, in scenes that are "
        "composed of test images: its highest place is in the object's box (pointing), its high "
        "part and the box overlap (IoU), its sum lies in the box (energy). A square of images "
        "lines up with what networks pool; placed images lie anywhere on a larger canvas; "
        "of scenes a network was told only which labels they hold. "
        "MaxBoxAccV2 (Choe et al. 2020) is the share of images of which a part of the map overlaps "
        "the box by 30, 50 or 70%, on average, with thresholds chosen on validation scenes (of own "
        "images, on the other half); mask IoU is with the object's exact mask. RICAP trains on "
        "collages of four images and is at home in scenes, other methods that paste less so.",
        (
            *(
                _Headline(f"{prefix}{key}", f"{title}{where}")
                for prefix, where in (("", ""), ("boxes/", ", own images"))
                for key, title in (("pointing", "Pointing"), ("iou", "IoU"), ("energy", "Energy"))
            ),
            _Headline("boxes/max_box_acc_v2", "MaxBoxAccV2, own images"),
            _Headline("placed/pointing", "Pointing, placed"),
            _Headline("placed/max_box_acc_v2", "MaxBoxAccV2, placed"),
            _Headline("placed/mask_iou", "Mask IoU, placed"),
            _Headline("weak/pointing", "Pointing, scenes"),
            _Headline("weak/energy", "Energy, scenes"),
            _Headline("weak/max_box_acc_v2", "MaxBoxAccV2, scenes"),
        ),
    ),
    "gradient_noise": _Known(
        "Gradient noise",
        "What makes the gradient of a training step, at the weights that were saved: the draw of "
        "the mixing for the same images, which images are in the batch, and what all steps have "
        "in common. The three shares of the mean squared norm add up to 100%. Towards the end of "
        "a training little is left in common.",
        (
            _Headline("mix", "By mixing", better=0),
            _Headline("batch", "By batch", better=0),
            _Headline("signal", "In common", better=0),
            _Headline("norm", "Norm", percent=False, better=0),
        ),
    ),
    "object_share": _Known(
        "Object share",
        "Accuracy by how much of the image the object fills: test images padded with black, or "
        "cropped into the object, until it fills that share of them. Crops cut parts off and "
        "enlarge the rest, so compare methods at one share, not shares. “Larger − smaller” is "
        "of images as they are: accuracy on those whose object is larger than the median of its "
        "class, less that on the smaller ones. Label error: how far label weights by area are from "
        "the shares of the objects that a mixed image shows; ghost labels: images with weight for "
        "a class of which nothing is seen (OA-CutMix, Nauen et al. 2026, counts 21.5 points and "
        "17% for CutMix on ImageNet).",
        (
            _context("clean", "As they are"),
            _Headline(r"([01](?:\.\d+)?)", r"At \1"),
            _Headline("own/difference", "Larger − smaller"),
            _context("label_error", "Label error"),
            _context("ghost_labels", "Ghost labels"),
        ),
        has_chance=True,
    ),
}


def names() -> list[str]:
    """Return the measurements that are known, in the order of the pages."""
    return list(_KNOWN)


def is_known(name: str) -> bool:
    """Tell whether a measurement has a title and a meaning."""
    return name in _KNOWN


def title(name: str) -> str:
    """Return the title of a measurement on the pages."""
    known = _KNOWN.get(name)
    return known.title if known else name.replace("_", " ").capitalize()


def meaning(name: str, classes: int) -> str:
    """Return what it says, with the accuracy of guessing; empty if it is not known."""
    known = _KNOWN.get(name)
    if known is None:
        return ""
    chance = f" Guessing is right in {100 / classes:.3g}%." if known.has_chance and classes else ""
    return f"{known.meaning}{chance}"


def shown_metrics(name: str, keys: Sequence[str]) -> list[Shown]:
    """Return those of the metrics `keys` ("attack/clean") that the table has.

    All of them, neither direction better, where none is known.
    """
    short = {key.removeprefix(f"{name}/"): key for key in keys}
    known = _KNOWN.get(name)
    shown = [
        Shown(_metric(short[text], match, headline), headline.is_compared)
        for headline in (known.headlines if known else ())
        for text in short
        if (match := re.fullmatch(headline.pattern, text))
    ]
    return shown or [Shown(Metric(key, text, False, 0)) for text, key in short.items()]


def _metric(key: str, match: re.Match[str], headline: _Headline) -> Metric:
    text = match.expand(headline.title).replace("-255", "/255").replace("left_out", "left out")
    return Metric(key, text[:1].upper() + text[1:], headline.percent, headline.better)
