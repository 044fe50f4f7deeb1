"""Put the statistics into words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mixbench.analysis.statistics.comparison import Comparison
from mixbench.analysis.statistics.contrasts import Contrast, Verdict
from mixbench.analysis.statistics.declared import Declared
from mixbench.analysis.statistics.estimates import Estimate
from mixbench.analysis.statistics.metrics import GAP, Metric
from mixbench.analysis.statistics.recommendation import Advice
from mixbench.analysis.text import formatting
from mixbench.analysis.text.advice import advice_sentence
from mixbench.analysis.text.answer import answer, asked, metric_in_words
from mixbench.analysis.text.formatting import joined
from mixbench.analysis.text.names import method_name
from mixbench.experiments.design.question import BASELINE, NAMED
from mixbench.experiments.text import plural

TRAINED_ON_RECTANGLES = ("cutout", "random_erasing")
BEYOND = ("test/ece", "test/nll")


@dataclass(frozen=True)
class Summary:
    """What a sweep shows.

    headline: one sentence. paragraph: what it rests on. beyond: calibration and occlusion, a
    sentence each, may be empty. reach: what it says nothing about.
    """

    headline: str
    paragraph: str
    beyond: tuple[str, ...]
    reach: str


def verdict_words(contrast: Contrast, unit: str = "seed") -> str:
    """Return a verdict as a table can show it, such as "undecided, 4 more seeds"."""
    if contrast.low is None:
        return formatting.MISSING
    if contrast.verdict == Verdict.UNDECIDED and contrast.more_replicates:
        return f"undecided, {plural(contrast.more_replicates, f'more {unit}')}"
    return str(contrast.verdict)


def summarise(comparison: Comparison, setting: str, advice: Advice) -> Summary:
    """Return the verdict on a sweep. setting: data set, model and regime, in words."""
    cells = comparison.cells
    finished = cells[cells["done"] > 0]
    reach = (
        f"This holds for this data set, model and regime only ({setting}), and says nothing about "
        "others."
    )
    if comparison.unit == "seed":
        reach += (
            " All runs have one training subset and validation split: what another would change "
            "is in no interval, and more seeds don't show it; `replicates` do."
        )
    declared = comparison.declared
    headline = advice_sentence(advice)
    if declared is not None and not _is_usual(comparison, declared):
        answered, detail = answer(comparison, declared)
        if declared.question.contrasts == NAMED:
            headline = answered
        else:
            detail = f"{answered} {detail}"
        return Summary(headline, detail, tuple(_other_measures(comparison)), reach)
    if not comparison.differences:
        return Summary(headline, _without_baseline(comparison, finished), (), reach)
    sentences = [] if declared is None else [asked(declared)]
    for _, members in cells.groupby("block", sort=False):
        detail = _block(comparison, members)
        title = members["title"].iloc[0]
        is_one = cells["block"].nunique() == 1
        sentences.append(detail if is_one or not title else f"With {title}: {detail}")
    sentences.append(_basis(comparison))
    if declared is not None:
        sentences.append("All else on this page is exploratory.")
    if len(comparison.differences) > len(comparison.metrics):
        reach = f"The differences are to the baseline. {reach}"
    beyond = tuple(_other_measures(comparison))
    return Summary(headline, " ".join(sentences), beyond, reach)


def _is_usual(comparison: Comparison, declared: Declared) -> bool:
    """Tell whether it asks what a sweep without a question is taken to ask."""
    if declared.metric.key != comparison.headline.key or declared.question.contrasts != BASELINE:
        return False
    # Those of a baseline that only this report has are not declared.
    differences = comparison.of_metric(comparison.headline.key).values()
    return all(comparison.is_declared(one, comparison.headline.key) for one in differences)


def _without_baseline(comparison: Comparison, finished: pd.DataFrame) -> str:
    pairs = zip(finished["cell_key"], finished["label"], strict=True)
    scores = {
        str(label): comparison.estimates[cell, comparison.headline.key]
        for cell, label in pairs
        if (cell, comparison.headline.key) in comparison.estimates
    }
    known = [(label, score) for label, score in scores.items() if score.mean is not None]
    metric = comparison.headline
    known.sort(key=lambda item: -metric.better * (item[1].mean or 0))
    if not known:
        return f"No {metric_in_words(metric).removeprefix('test ')} was measured."
    decimals = formatting.digits([score.half_width for _, score in known], metric.percent)
    texts = [
        f"{label} {formatting.estimate(score, metric.percent, decimals)}"
        f"{'%' if metric.percent else ''} ({plural(score.n, comparison.unit)})"
        for label, score in known
    ]
    note = (
        f" No differences to a baseline are tested: {comparison.note}." if comparison.note else ""
    )
    if len(texts) > 5:
        texts = [*texts[:5], f"and {len(known) - 5} more"]
    words = metric_in_words(metric)
    return f"{words[0].upper()}{words[1:]}: {'; '.join(texts)}.{note}"


def _block(comparison: Comparison, members: pd.DataFrame) -> str:
    """Return the sentences on the headline metric for cells with one baseline."""
    metric = comparison.headline
    names = dict(zip(members["cell_key"], members["series"], strict=True))
    differences = {
        name: comparison.differences[key, metric.key]
        for key, name in names.items()
        if (key, metric.key) in comparison.differences
    }
    if not differences:
        return "nothing is compared with a baseline here."
    base = members["baseline_key"].dropna().iloc[0]
    base_name = names.get(base) or str(comparison.cells.set_index("cell_key").loc[base, "label"])
    decimals = formatting.digits([d.half_width for d in differences.values()], metric.percent)
    decimals = formatting.difference_digits(differences.values(), metric.percent, decimals)
    by = {kind: _ranked(differences, kind, metric.better or 1) for kind in Verdict}
    parts = []
    if len(best := _names_of_best(comparison, members)) > 1:
        parts.append(f"Can't be told apart from the best: {joined(best)}.")
    for kind, words in (
        (Verdict.BETTER, f"Better than the baseline ({base_name})"),
        (Verdict.EQUIVALENT, f"Equivalent to it within {_margin(differences, metric)}"),
        (Verdict.WORSE, "Worse"),
    ):
        if by[kind]:
            parts.append(f"{words}: {_listed(differences, by[kind], decimals, metric.percent)}.")
    undecided = [name for name in by[Verdict.UNDECIDED] if differences[name].low is not None]
    if undecided:
        listed = _undecided(differences, undecided, decimals, comparison.unit, metric)
        parts.append(f"Undecided: {listed}.")
    unknown = [name for name, difference in differences.items() if difference.low is None]
    if unknown:
        parts.append(_unknown(differences, unknown, decimals, metric.percent))
    return " ".join(parts)


def _names_of_best(comparison: Comparison, members: pd.DataFrame) -> list[str]:
    """Return the names of the cells that can't be told apart from the best."""
    names = dict(zip(members["cell_key"], members["series"], strict=True))
    best = comparison.best.get(int(members["block"].iloc[0]), ())
    return [str(names[key]) for key in best if key in names]


def _margin(differences: dict[str, Contrast], metric: Metric) -> str:
    """Return the margin with its unit, such as "0.5 points"."""
    margin = next((d.margin for d in differences.values() if d.margin is not None), None)
    if margin is None:
        return formatting.MISSING
    return f"{margin * 100:g} points" if metric.percent else f"{margin:.3g}"


def _undecided(
    differences: dict[str, Contrast],
    names: Sequence[str],
    decimals: int,
    unit: str,
    metric: Metric,
) -> str:
    shown = []
    for name in names:
        difference = differences[name]
        text = f"{name} {formatting.difference(difference, metric.percent, decimals)}"
        if difference.detectable is not None:
            seen = formatting.number(difference.detectable, metric.percent, decimals)
            points = " points" if metric.percent else ""
            text += f", where {seen}{points} would have been seen"
            if difference.more_replicates:
                more = plural(difference.more_replicates, f"more {unit}")
                text += f" ({more} for {_margin(differences, metric).removesuffix(' points')})"
        shown.append(text)
    return "; ".join(shown)


def _basis(comparison: Comparison) -> str:
    """Say what kind of numbers the sentences before it contain."""
    metric = comparison.headline
    pairs = sorted(
        {d.n for (_, key), d in comparison.differences.items() if key == metric.key and d.n}
    )
    if not pairs:
        return ""
    over = plural(pairs[-1], comparison.unit)
    over = f"{pairs[0]} to {over}" if len(pairs) > 1 else over
    interval = " with intervals that hold together at 95%" if pairs[-1] > 1 else ""
    what = "points" if metric.percent else metric_in_words(metric)
    return f"All are differences in {what}{interval}, paired over {over}."


def _unknown(
    differences: dict[str, Contrast], names: Sequence[str], decimals: int, percent: bool
) -> str:
    one = [name for name in names if differences[name].n == 1]
    none = [name for name in names if differences[name].n == 0]
    rest = [name for name in names if name not in one and name not in none]
    parts = []
    if one:
        shown = _listed(differences, one, decimals, percent)
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
        if metric.key == comparison.primary.key:
            continue
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
            "The hidden parts are rectangles of the mean colour unless noise is named, which is "
            f"what {joined(map(method_name, blanking))} {verb} on: other hidden parts might "
            "favour them less."
        )
    if comparison.declared is None:
        return sentences
    return [f"Exploratory: {sentence[0].lower()}{sentence[1:]}" for sentence in sentences]


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


def _measure(metric: Metric, differences: dict[str, Contrast]) -> str:
    """Return a sentence on one metric, empty when no difference is shown."""
    better = _ranked(differences, Verdict.BETTER, metric.better)
    worse = _ranked(differences, Verdict.WORSE, metric.better)
    parts = []
    for names, word in ((better, "better"), (worse, "worse")):
        if names:
            listed = joined(_brief(metric, differences, names))
            parts.append(f"{word} than the baseline with {listed}")
    if not parts:
        return ""
    for kind, words in ((Verdict.EQUIVALENT, "equivalent"), (Verdict.UNDECIDED, "undecided")):
        if rest := len(_ranked(differences, kind, metric.better)):
            parts.append(f"{rest} more {words}")
    unit = ", in points" if metric.percent else ""
    return f"On {_in_words(metric)}{unit}: {'; '.join(parts)}."


def _in_words(metric: Metric) -> str:
    title, _, shape = metric.title.partition(", ")
    words = title if title.isupper() else title[0].lower() + title[1:]
    return f"{words} ({shape})" if shape else words


def _brief(metric: Metric, differences: dict[str, Contrast], names: Sequence[str]) -> list[str]:
    decimals = 1 if metric.percent else 3
    shown = [
        f"{name} ({formatting.number(differences[name].mean, metric.percent, decimals, sign=True)})"
        for name in names[:4]
    ]
    return [*shown, f"{len(names) - 4} more"] if len(names) > 4 else shown


def _ranked(differences: dict[str, Contrast], kind: Verdict, better: int = 1) -> list[str]:
    """Return the names with that verdict, the best first."""
    names = [name for name, value in differences.items() if value.verdict == kind]
    return sorted(names, key=lambda name: -(differences[name].mean or 0) * (better or 1))


def _listed(
    differences: dict[str, Contrast], names: Sequence[str], decimals: int, percent: bool
) -> str:
    return ", ".join(
        f"{name} {formatting.difference(differences[name], percent, decimals)}" for name in names
    )
