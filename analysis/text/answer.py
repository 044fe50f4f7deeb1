"""Answer the question that a sweep declared before it ran, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mixbench.analysis.statistics.comparison import Comparison
from mixbench.analysis.statistics.contrasts import Verdict
from mixbench.analysis.statistics.declared import Declared, DeclaredContrast
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.text import formatting
from mixbench.analysis.text.formatting import joined
from mixbench.analysis.text.names import regime_name, told_apart
from mixbench.experiments.design import question as questions
from mixbench.experiments.text import plural

MOST_LISTED = 12
"""Contrasts in the paragraph; the table has all."""


def metric_in_words(metric: Metric) -> str:
    """Return a metric as it stands in a sentence, such as "test accuracy"."""
    # A metric of somebody's own has no title but its key.
    title, _, shape = metric.title.removeprefix("test/").partition(", ")
    words = title if title.isupper() else title[0].lower() + title[1:]
    words = f"test {words}" if metric.key.startswith("test/") else words
    return f"{words} ({shape})" if shape else words


def asked(declared: Declared) -> str:
    """Return the question as a sentence."""
    question, metric = declared.question, declared.metric
    what = {
        questions.BASELINE: "every configuration with its baseline",
        questions.ALL_PAIRS: "all pairs of configurations",
        questions.BEST: "which configuration is the best",
        questions.NAMED: f"{joined(question.groups)} with each other, where all else is alike",
    }[question.contrasts]
    contrasts = plural(len(declared.contrasts), "contrast")
    return (
        f"Declared question: {what}, in {metric_in_words(metric)} with a margin of "
        f"{_amount(metric.margin, metric)} ({contrasts})."
    )


def best_headline(best: Mapping[str, Sequence[str]], names: Sequence[str], metric: str) -> str:
    """Return the sentence on what is best. best: stratum -> names, the best first."""
    if len(best) > 1:
        always = [name for name in names if all(name in members for members in best.values())]
        if always:
            verb = "is" if len(always) == 1 else "are"
            return f"{joined(always)} {verb} in the best set on {metric} everywhere."
        return f"No method is in the best set on {metric} everywhere."
    members = next(iter(best.values()))
    if len(members) == 1:
        return f"{members[0]} is the best on {metric}."
    return f"{joined(members)} can't be told apart from the best on {metric}."


def answer(comparison: Comparison, declared: Declared) -> tuple[str, str]:
    """Return a headline that answers the question, and the sentences that it rests on."""
    metric = declared.metric
    known = [one for one in declared.contrasts if one.contrast.difference is not None]
    sentences = [asked(declared)]
    sentences += [f"Not answered: {note}." for note in declared.notes]
    if not known:
        return "The declared question can't be answered yet.", " ".join(sentences)
    if declared.question.contrasts == questions.BEST:
        names = list(dict.fromkeys(name for members in declared.best.values() for name in members))
        headline = best_headline(declared.best, names, metric_in_words(metric))
        several = len(declared.best) > 1
        sentences += [
            f"{f'With {title}, can' if several else 'Can'}'t be told apart from the best: "
            f"{joined(members)}."
            for title, members in declared.best.items()
            if several or len(members) > 1
        ]
    elif len(declared.contrasts) == 1:
        headline = _one(known[0], metric, comparison.unit)
    else:
        headline = _tally(declared)
    decimals = _decimals(known, metric)
    told = len({one.contrast.stratum for one in declared.contrasts}) > 1
    if declared.question.contrasts != questions.BEST and len(declared.contrasts) > 1:
        for kind in Verdict:
            shown = [_listed(one, metric, decimals, told) for one in known if _is(one, kind)]
            more = f"; {len(shown) - MOST_LISTED} more" if len(shown) > MOST_LISTED else ""
            if shown:
                listed = "; ".join(shown[:MOST_LISTED])
                sentences.append(f"{str(kind).capitalize()}: {listed}{more}.")
    sentences += [_basis(known, comparison.unit), "All else on this page is exploratory."]
    return headline, " ".join(part for part in sentences if part)


def _one(one: DeclaredContrast, metric: Metric, unit: str) -> str:
    contrast, where = one.contrast, metric_in_words(metric)
    decimals = _decimals([one], metric)
    size = formatting.number(abs(contrast.difference or 0), metric.percent, decimals)
    size = f"{size}{_points(metric)}"
    interval = formatting.interval(contrast, metric.percent, decimals)
    if contrast.low is None:
        return f"{one.label} and {one.against} can't be told apart yet in {where}."
    if contrast.verdict == Verdict.EQUIVALENT:
        margin = _amount(metric.margin, metric)
        return f"{one.label} and {one.against} are equivalent in {where}, within {margin}."
    if contrast.verdict == Verdict.UNDECIDED:
        more = ""
        if contrast.more_replicates:
            more = f"; the margin needs {plural(contrast.more_replicates, f'more {unit}')}"
        return (
            f"Undecided between {one.label} and {one.against} in {where}: {interval}"
            f"{_points(metric)}{more}."
        )
    return f"{one.label} is {contrast.verdict} than {one.against} in {where}, by {size} {interval}."


def _tally(declared: Declared) -> str:
    kinds = [one.contrast.verdict for one in declared.contrasts]
    where = metric_in_words(declared.metric)
    if declared.question.contrasts == questions.ALL_PAIRS:
        apart = kinds.count(Verdict.BETTER) + kinds.count(Verdict.WORSE)
        rest = [
            f"{kinds.count(kind)} {'are ' if kind == Verdict.EQUIVALENT else ''}{kind}"
            for kind in (Verdict.EQUIVALENT, Verdict.UNDECIDED)
            if kinds.count(kind)
        ]
        counts = joined([f"{apart} can be told apart", *rest])
        return f"Of {plural(len(kinds), 'pair')}, {counts} in {where}."
    if declared.question.contrasts == questions.NAMED:
        return _by_pair(declared)
    counts = joined([f"{kinds.count(kind)} {kind}" for kind in Verdict if kinds.count(kind)])
    return f"In {where}, {plural(len(kinds), 'declared contrast')}: {counts}."


def _by_pair(declared: Declared) -> str:
    """Say of each pair of named groups what is shown where."""
    where = metric_in_words(declared.metric)
    titles = list(dict.fromkeys(one.contrast.stratum for one in declared.contrasts))
    names = dict(zip(titles, told_apart(titles)[1], strict=True))
    found: dict[tuple[str, str], dict[Verdict, list[str]]] = {}
    for one in declared.contrasts:
        of_pair = found.setdefault((one.label, one.against), {})
        of_pair.setdefault(one.contrast.verdict, []).append(names[one.contrast.stratum])
    groups = joined(declared.question.groups)
    if all(set(of_pair) == {Verdict.UNDECIDED} for of_pair in found.values()):
        return f"{groups} can't be told apart yet in {where}."
    if all(set(of_pair) == {Verdict.EQUIVALENT} for of_pair in found.values()):
        margin = _amount(declared.metric.margin, declared.metric)
        return f"{groups} are equivalent in {where}, within {margin}."
    words = {
        Verdict.BETTER: "better than",
        Verdict.WORSE: "worse than",
        Verdict.EQUIVALENT: "equivalent to",
    }
    # Of one group, what is the same against several others is said once.
    said: dict[tuple[str, Verdict, str], list[str]] = {}
    for (label, against), of_pair in found.items():
        for kind in words:
            if kind in of_pair:
                there = _where(of_pair[kind], len(titles))
                said.setdefault((label, kind, there), []).append(against)
    # And what is the same of several groups.
    alike: dict[tuple[Verdict, str, tuple[str, ...]], list[str]] = {}
    for (label, kind, there), others in said.items():
        alike.setdefault((kind, there, tuple(others)), []).append(label)
    parts = [
        f"{joined(labels)} {'is' if len(labels) == 1 else 'are'} {words[kind]} {joined(others)} "
        f"{there}".strip()
        for (kind, there, others), labels in alike.items()
    ]
    rest = sum(len(of_pair.get(Verdict.UNDECIDED, ())) for of_pair in found.values())
    total = plural(len(declared.contrasts), "contrast")
    undecided = f" Undecided: {rest} of {total}." if rest else ""
    return f"In {where}, {'; '.join(parts)}.{undecided}"


def _where(titles: Sequence[str], total: int) -> str:
    if total == 1:
        return ""
    if len(titles) == total:
        return "everywhere"
    return f"at {joined(map(regime_name, titles))}"


def _listed(one: DeclaredContrast, metric: Metric, decimals: int, told: bool) -> str:
    name = f"{one.label} − {one.against}"
    name += f" ({one.contrast.stratum})" if told else ""
    text = f"{name} {formatting.difference(one.contrast, metric.percent, decimals)}"
    if one.contrast.verdict == Verdict.UNDECIDED and one.contrast.detectable is not None:
        seen = formatting.number(one.contrast.detectable, metric.percent, decimals)
        text += f", where {seen}{_points(metric)} would have been seen"
    return text


def _is(one: DeclaredContrast, kind: Verdict) -> bool:
    return one.contrast.verdict == kind


def _basis(known: Sequence[DeclaredContrast], unit: str) -> str:
    pairs = sorted({one.contrast.n for one in known})
    over = plural(pairs[-1], unit)
    over = f"{pairs[0]} to {over}" if len(pairs) > 1 else over
    interval = ", with intervals that hold together at 95%" if pairs[-1] > 1 else ""
    return f"Differences are paired over {over}{interval}."


def _decimals(known: Sequence[DeclaredContrast], metric: Metric) -> int:
    found = [one.contrast for one in known]
    decimals = formatting.digits([contrast.half_width for contrast in found], metric.percent)
    return formatting.difference_digits(found, metric.percent, decimals)


def _points(metric: Metric) -> str:
    return " points" if metric.percent else ""


def _amount(value: float | None, metric: Metric) -> str:
    if value is None:
        return formatting.MISSING
    shown = f"{value * 100 if metric.percent else value:g}"
    return f"{shown} point" if metric.percent and shown == "1" else f"{shown}{_points(metric)}"
