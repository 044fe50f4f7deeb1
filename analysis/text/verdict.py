"""Put the statistics into words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mixbench.analysis.statistics.comparison import Comparison
from mixbench.analysis.statistics.metrics import ACCURACY, GAP, Metric
from mixbench.analysis.statistics.tests import SEEDS_WANTED, Difference, Estimate
from mixbench.analysis.text import formatting
from mixbench.analysis.text.formatting import joined
from mixbench.experiments.text import plural

LEVEL = 0.05
TRAINED_ON_RECTANGLES = ("cutout", "random_erasing")
BEYOND = ("test/ece", "test/nll")


@dataclass(frozen=True)
class Verdict:
    """What a sweep shows.

    headline: one sentence. paragraph: what it rests on. beyond: calibration and occlusion, a
    sentence each, may be empty. reach: what it says nothing about.
    """

    headline: str
    paragraph: str
    beyond: tuple[str, ...]
    reach: str


def standing(difference: Difference, better: int) -> str:
    """Return "ahead", "behind", "open", "none shown" or "unknown".

    open: the interval excludes 0, but not after correction.
    """
    if difference.mean is None or difference.half_width is None:
        return "unknown"
    if not difference.excludes_zero:
        return "none shown"
    if difference.p_holm is None or difference.p_holm >= LEVEL:
        return "open"
    return "ahead" if difference.mean * (better or 1) > 0 else "behind"


def verdict(comparison: Comparison, setting: str) -> Verdict:
    """Return the verdict on a sweep. setting: data set, model and regime, in words."""
    cells = comparison.cells
    finished = cells[cells["done"] > 0]
    reach = (
        f"This holds for this data set, model and regime only ({setting}), and says nothing about "
        "others."
    )
    if not comparison.differences:
        headline, detail = _without_baseline(comparison, finished)
        return Verdict(headline, detail, (), reach)
    sentences = []
    headlines = []
    for _, members in cells.groupby("block", sort=False):
        headline, detail = _block(comparison, members)
        title = members["title"].iloc[0]
        is_one = cells["block"].nunique() == 1
        headlines.append(headline)
        sentences.append(detail if is_one or not title else f"With {title}: {detail}")
    sentences.append(_basis(comparison))
    if len(comparison.differences) > len(comparison.metrics):
        reach = f"The comparisons are with the baseline, not of methods with each other. {reach}"
    headline = headlines[0] if len(headlines) == 1 else _tally(comparison)
    beyond = tuple(_other_measures(comparison))
    return Verdict(headline, " ".join(sentences), beyond, reach)


def _without_baseline(comparison: Comparison, finished: pd.DataFrame) -> tuple[str, str]:
    pairs = zip(finished["cell_key"], finished["label"], strict=True)
    scores = {
        str(label): comparison.estimates[cell, ACCURACY.key]
        for cell, label in pairs
        if (cell, ACCURACY.key) in comparison.estimates
    }
    known = [(label, score) for label, score in scores.items() if score.mean is not None]
    known.sort(key=lambda item: -(item[1].mean or 0))
    if not known:
        return "No accuracy was measured.", ""
    decimals = formatting.digits([score.half_width for _, score in known], percent=True)
    texts = [
        f"{label} {formatting.estimate(score, True, decimals)}% ({plural(score.n, 'seed')})"
        for label, score in known
    ]
    note = f" No differences are tested: {comparison.note}." if comparison.note else ""
    if len(known) == 1:
        label, score = known[0]
        reached = formatting.number(score.mean, True, decimals)
        return f"{label} reaches {reached}% test accuracy.", f"Test accuracy: {texts[0]}.{note}"
    headline = f"{known[0][0]} has the highest mean test accuracy, but no baseline to compare with."
    if len(cells := known) > 5:
        texts = [*texts[:5], f"and {len(cells) - 5} more"]
    return headline, f"Test accuracy: {'; '.join(texts)}.{note}"


def _block(comparison: Comparison, members: pd.DataFrame) -> tuple[str, str]:
    """Return a headline and the sentences on test accuracy for cells with one baseline."""
    names = dict(zip(members["cell_key"], members["series"], strict=True))
    differences = {
        name: comparison.differences[key, ACCURACY.key]
        for key, name in names.items()
        if (key, ACCURACY.key) in comparison.differences
    }
    if not differences:
        return "Nothing is compared.", "nothing is compared with a baseline here."
    base = members["baseline_key"].dropna().iloc[0]
    base_name = names.get(base) or str(comparison.cells.set_index("cell_key").loc[base, "label"])
    decimals = formatting.digits([d.half_width for d in differences.values()], percent=True)
    decimals = formatting.difference_digits(differences.values(), True, decimals)
    by = {kind: _ranked(differences, kind) for kind in ("ahead", "behind", "open", "none shown")}
    parts = []
    if by["ahead"]:
        best = by["ahead"][0]
        parts.append(
            f"In test accuracy, {best} is ahead of the baseline ({base_name}) by "
            f"{_points(differences[best], decimals)}."
        )
    for kind, words in (
        ("ahead", "Also ahead"),
        ("behind", "Behind"),
        ("open", "Not settled, as the interval excludes 0 but not after Holm's correction"),
        ("none shown", "No difference shown"),
    ):
        if listed := by[kind][1:] if kind == "ahead" else by[kind]:
            parts.append(f"{words}: {_listed(differences, listed, decimals)}.")
    unknown = [name for name, d in differences.items() if standing(d, 1) == "unknown"]
    if unknown:
        parts.append(_unknown(differences, unknown, decimals))
    return _headline(differences, by, base_name, decimals), " ".join(parts)


def _headline(
    differences: dict[str, Difference], by: dict[str, list[str]], base_name: str, decimals: int
) -> str:
    """Return the sentence on the best method. by: standing -> names, the best first."""
    if by["ahead"]:
        fewest = min((d.n for d in differences.values() if d.n > 1), default=0)
        few = f" (only {plural(fewest, 'seed')})" if 0 < fewest < SEEDS_WANTED else ""
        best = by["ahead"][0]
        points = formatting.number(differences[best].mean, True, decimals)
        is_clear = "ahead of" if len(by["ahead"]) == 1 else "furthest ahead of"
        return f"{best} is {is_clear} the baseline ({base_name}), by {points} points{few}."
    if not any(by.values()):
        return f"Nothing can be told apart from the baseline ({base_name}) yet."
    if by["behind"]:
        return f"No method is ahead of the baseline ({base_name})."
    if by["open"]:
        return f"No method is clearly ahead of the baseline ({base_name})."
    return f"No difference to the baseline ({base_name}) is shown."


def _basis(comparison: Comparison) -> str:
    """Say what kind of numbers the sentences before it contain."""
    pairs = sorted(
        {d.n for (_, key), d in comparison.differences.items() if key == ACCURACY.key and d.n}
    )
    if not pairs:
        return ""
    over = plural(pairs[-1], "seed")
    over = f"{pairs[0]} to {over}" if len(pairs) > 1 else over
    interval = " with 95% t intervals" if pairs[-1] > 1 else ""
    return f"All are differences in points{interval}, paired over {over}."


def _unknown(differences: dict[str, Difference], names: Sequence[str], decimals: int) -> str:
    one = [name for name in names if differences[name].n == 1]
    none = [name for name in names if differences[name].n == 0]
    rest = [name for name in names if name not in one and name not in none]
    parts = []
    if one:
        shown = _listed(differences, one, decimals)
        parts.append(f"No difference shown, as one seed gives no interval: {shown}.")
    if none:
        parts.append(f"Not compared, as no seed has a result on both sides: {joined(none)}.")
    parts += [f"No difference shown for {name}: {differences[name].note}." for name in rest]
    return " ".join(parts)


def _other_measures(comparison: Comparison) -> list[str]:
    """Return a sentence for calibration and one for each occlusion, over all comparisons."""
    sentences = []
    equal = []
    names = dict(zip(comparison.cells["cell_key"], comparison.cells["label"], strict=True))
    for metric in comparison.metrics:
        if metric.key not in BEYOND and not metric.key.startswith("occlusion/"):
            continue
        differences = {
            names[cell]: difference
            for (cell, key), difference in comparison.differences.items()
            if key == metric.key
        }
        if not any(difference.half_width is not None for difference in differences.values()):
            continue
        if sentence := _measure(metric, differences):
            sentences.append(sentence)
        else:
            equal.append(_in_words(metric))
    if equal:
        sentences.append(f"On {joined(equal)}, no difference is clear.")
    if reversal := _reversed_calibration(comparison):
        sentences.append(reversal)
    blanking = [
        name
        for name in comparison.cells["augmentation.name"].unique()
        if name in TRAINED_ON_RECTANGLES
    ]
    if blanking and any("occlusion" in sentence for sentence in sentences):
        verb = "trains" if len(blanking) == 1 else "train"
        sentences.append(
            f"The hidden parts are rectangles of the mean colour, which is what {joined(blanking)} "
            f"{verb} on: other hidden parts might favour them less."
        )
    return sentences


def _reversed_calibration(comparison: Comparison) -> str:
    """Say which methods turn an over-confident baseline under-confident, or the other way round.

    ECE alone hides it: 6% too sure and 6% too unsure score the same.
    """
    turned: dict[tuple[str, str], list[str]] = {}
    for cell in comparison.cells.itertuples():
        here = _confidence(comparison.estimates.get((str(cell.cell_key), GAP)))
        base = _confidence(comparison.estimates.get((str(cell.baseline_key), GAP)))
        if here and base and here != base:
            turned.setdefault((base, here), []).append(str(cell.label))
    parts = []
    for (was, became), names in turned.items():
        verb = "is" if len(names) == 1 else "are"
        parts.append(f"The baseline is {was}; {joined(names)} {verb} {became}.")
    return " ".join(parts)


def _confidence(gap: Estimate | None) -> str:
    """Return what an interval of confidence minus accuracy shows, empty if nothing."""
    if gap is None or gap.low is None or gap.high is None:
        return ""
    return "over-confident" if gap.low > 0 else "under-confident" if gap.high < 0 else ""


def _measure(metric: Metric, differences: dict[str, Difference]) -> str:
    """Return a sentence on one metric, empty when no difference is shown."""
    better = _ranked(differences, "ahead", metric.better)
    worse = _ranked(differences, "behind", metric.better)
    parts = []
    for names, word in ((better, "better"), (worse, "worse")):
        if names:
            listed = joined(_brief(metric, differences, names))
            parts.append(f"{word} than the baseline with {listed}")
    if not parts:
        return ""
    for kind, words in (("open", "not settled for"), ("none shown", "no difference shown for")):
        if rest := len(_ranked(differences, kind, metric.better)):
            parts.append(f"{words} {rest} more")
    unit = ", in points" if metric.percent else ""
    return f"On {_in_words(metric)}{unit}: {'; '.join(parts)}."


def _in_words(metric: Metric) -> str:
    title, _, shape = metric.title.partition(", ")
    words = title if title.isupper() else title[0].lower() + title[1:]
    return f"{words} ({shape})" if shape else words


def _brief(metric: Metric, differences: dict[str, Difference], names: Sequence[str]) -> list[str]:
    decimals = 1 if metric.percent else 3
    shown = [
        f"{name} ({formatting.number(differences[name].mean, metric.percent, decimals, sign=True)})"
        for name in names[:4]
    ]
    return [*shown, f"{len(names) - 4} more"] if len(names) > 4 else shown


def _tally(comparison: Comparison) -> str:
    kinds = [
        standing(difference, 1)
        for (_, key), difference in comparison.differences.items()
        if key == ACCURACY.key
    ]
    better, worse = kinds.count("ahead"), kinds.count("behind")
    rest = len(kinds) - better - worse
    parts = [
        f"{n} {words}"
        for n, words in ((better, "ahead"), (worse, "behind"), (rest, "without a clear difference"))
        if n
    ]
    return f"In test accuracy, {plural(len(kinds), 'comparison')} with a baseline: {joined(parts)}."


def _ranked(differences: dict[str, Difference], kind: str, better: int = 1) -> list[str]:
    """Return the names of that standing, the best first."""
    names = [name for name, value in differences.items() if standing(value, better) == kind]
    return sorted(names, key=lambda name: -(differences[name].mean or 0) * (better or 1))


def _listed(differences: dict[str, Difference], names: Sequence[str], decimals: int) -> str:
    return ", ".join(
        f"{name} {formatting.difference(differences[name], True, decimals)}" for name in names
    )


def _points(difference: Difference, decimals: int) -> str:
    low = formatting.number(difference.low, True, decimals, sign=True)
    high = formatting.number(difference.high, True, decimals, sign=True)
    p = _equals(formatting.p_value(difference.p_holm))
    mean = formatting.number(difference.mean, True, decimals)
    return f"{mean} points (95% interval {low} to {high}, Holm p\u00a0{p})"


def _equals(text: str) -> str:
    return text if text.startswith("<") else f"=\u00a0{text}"
