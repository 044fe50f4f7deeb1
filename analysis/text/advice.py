"""The first sentence of a page: what to use, what to avoid, and in which regime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mixbench.analysis.statistics.estimates import SEEDS_WANTED
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.statistics.recommendation import Advice, Option, Regime, Word
from mixbench.analysis.tables.labels import JOIN
from mixbench.analysis.text import formatting
from mixbench.analysis.text.answer import metric_in_words
from mixbench.analysis.text.formatting import joined
from mixbench.analysis.text.names import NO_MIXING, method_name, setting_name
from mixbench.experiments.text import plural

_MOST_NAMED = 4
_MOST_CLAUSES = 4
_MOST_RESTS = 2
_BETTER = (Word.USE, Word.NOT_BEST)


def advice_sentence(advice: Advice) -> str:
    """Return what to use, what can't be told apart, and what to avoid, in a sentence or three."""
    regimes = [regime for regime in advice.regimes if len(regime.options) > 1]
    judged = [one for one in regimes if any(option.contrast for option in one.options)] or regimes
    if not regimes:
        return _alone([option for regime in advice.regimes for option in regime.options], advice)
    if all(
        option.word in (Word.UNKNOWN, Word.BASELINE) for one in judged for option in one.options
    ):
        return f"Nothing can be judged yet: that takes two {advice.unit}s on both sides."
    said = _of_one(judged[0], advice) if len(judged) == 1 else _of_several(judged)
    found = (option.contrast for one in judged for option in one.options)
    fewest = min((c.n for c in found if c is not None and c.low is not None), default=SEEDS_WANTED)
    return f"{said} Only {plural(fewest, advice.unit)}." if fewest < SEEDS_WANTED else said


def word_in_full(option: Option, unit: str) -> str:
    """Return the advice on one option, such as "undecided (4 more replicates)"."""
    if option.more_replicates:
        return f"{option.word} ({plural(option.more_replicates, f'more {unit}')})"
    return str(option.word)


def _alone(options: Sequence[Option], advice: Advice) -> str:
    known = [option for option in options if option.mean is not None]
    if len(known) != 1:
        return (
            f"Nothing is compared here: no two of {plural(len(options), 'configuration')} differ "
            "in their method alone."
        )
    metric = advice.metric
    shown = formatting.number(known[0].mean, metric.percent, 1 if metric.percent else 3)
    name = method_name(known[0].name)
    return (
        f"{name[0].upper()}{name[1:]} reaches {shown}{'%' if metric.percent else ''} in "
        f"{metric_in_words(metric)}; there is nothing to compare it with."
    )


def _begun(sentence: str) -> str:
    """Begin a sentence with a capital, whatever it begins with ("untuned MixUp")."""
    return f"{sentence[0].upper()}{sentence[1:]}"


def _of_one(regime: Regime, advice: Advice) -> str:
    use = regime.named(Word.USE)
    base = regime.against
    parts = [_what_to_use(regime, advice.metric)]
    if base is not None:
        if second := regime.named(Word.NOT_BEST):
            verb = "is" if len(second) == 1 else "are"
            parts.append(_begun(f"{_listed(second)} {verb} better than {method_name(base)} too."))
        if (same := regime.named(Word.NO_WORSE)) and not use:
            verb = "is" if len(same) == 1 else "are"
            parts.append(_begun(f"{_listed(same)} {verb} no worse."))
    if avoid := regime.named(Word.AVOID):
        parts.append(f"Avoid {_listed(avoid)}.")
    if undecided := [option for option in regime.options if option.word == Word.UNDECIDED]:
        parts.append(_undecided(undecided, advice.unit))
    return " ".join(parts)


def _undecided(options: Sequence[Option], unit: str) -> str:
    listed = _listed([option.name for option in options])
    most = max((option.more_replicates or 0 for option in options), default=0)
    if not most:
        return f"Undecided: {listed}."
    upto = "up to " if len(options) > 1 else ""
    return f"Undecided: {listed} ({upto}{plural(most, f'more {unit}')})."


def _what_to_use(regime: Regime, metric: Metric) -> str:
    use, base = regime.named(Word.USE), regime.against
    if not use and base is None:
        return "Nothing can be told apart yet."
    if not use:
        name = method_name(base or NO_MIXING)
        if regime.named(Word.UNKNOWN, Word.UNDECIDED) or regime.named(Word.NOT_BEST):
            return f"Nothing is shown to be better than {name} here."
        return f"Stay with {name}: nothing is better here."
    gains = sorted(
        abs(option.contrast.difference)
        for option in regime.options
        if option.word == Word.USE and option.contrast and option.contrast.difference is not None
    )
    gain = ""
    if base is not None and gains:
        ends = [formatting.number(g, metric.percent, 1 if metric.percent else 3) for g in gains]
        unit = " points" if metric.percent else f" in {metric.title}"
        size = ends[0] if ends[0] == ends[-1] else f"{ends[0]} to {ends[-1]}"
        gain = f" by {size}{unit} over {method_name(base)}"
    if len(use) == 1:
        if base is None:
            return f"Use {method_name(use[0])}: it is the best here."
        return f"Use {method_name(use[0])}: better{gain}."
    apart = "they can't be told apart here"
    if base is None or not gain:
        return f"Use {_alternatives(use)}; {apart}."
    return f"Use {_alternatives(use)}: better{gain}, and {apart}."


def _of_several(regimes: Sequence[Regime]) -> str:
    uses = {regime.title: frozenset(regime.named(Word.USE)) for regime in regimes}
    everywhere = [
        name for name in regimes[0].named(Word.USE) if all(name in used for used in uses.values())
    ]
    parts = []
    if everywhere:
        parts.append(f"Use {_alternatives(everywhere)}, {_everywhere(len(regimes))}.")
    else:
        groups: dict[frozenset[str], list[str]] = {}
        for title, used in uses.items():
            groups.setdefault(used, []).append(title)
        titles = [regime.title for regime in regimes]
        if len(groups) == 1:
            base = joined(dict.fromkeys(method_name(r.against or NO_MIXING) for r in regimes), "or")
            parts.append(f"Nothing is shown to be better than {base} in any regime.")
        elif len(groups) <= _MOST_CLAUSES:
            parts += _clauses(groups, regimes, titles)
        else:
            parts += _by_method(regimes, titles)
    avoid = [
        option.name
        for option in regimes[0].options
        if all(option.name in regime.named(Word.AVOID) for regime in regimes)
    ]
    if avoid:
        parts.append(f"Avoid {_listed(avoid)}.")
    return " ".join(parts)


def _clauses(
    groups: Mapping[frozenset[str], Sequence[str]],
    regimes: Sequence[Regime],
    titles: Sequence[str],
) -> list[str]:
    """Say what to use in each group of regimes with the same advice."""
    of_title = {regime.title: regime for regime in regimes}
    clauses = []
    for used, members in sorted(groups.items(), key=lambda item: not item[0]):
        first = of_title[members[0]]
        where = where_in_words(members, titles)
        if used:
            names = [name for name in first.named(Word.USE) if name in used]
            clauses.append(f"Use {_alternatives(names)} {where}.")
        else:
            base = method_name(first.against or NO_MIXING)
            clauses.append(f"Nothing is shown to beat {base} {where}.")
    return clauses


def _by_method(regimes: Sequence[Regime], titles: Sequence[str]) -> list[str]:
    """Say for each method where it is of use; the one with most regimes first."""
    used: dict[str, list[str]] = {}
    for regime in regimes:
        for name in regime.named(Word.USE):
            used.setdefault(name, []).append(regime.title)
    ranked = sorted(used, key=lambda name: -len(used[name]))
    parts = [
        f"{method_name(name)} {where_in_words(used[name], titles)}" for name in ranked[:_MOST_NAMED]
    ]
    sentences = [f"It depends on the regime: use {'; '.join(parts)}."]
    none = [title for title in titles if not any(title in where for where in used.values())]
    if none:
        where = where_in_words(none, titles)
        sentences.append(f"Nothing is shown to be better {where}.")
    return sentences


def where_in_words(members: Sequence[str], titles: Sequence[str]) -> str:
    """Return where something holds: what these regimes have that all others have not.

    Args:
        members: The titles of some regimes.
        titles: Those of all.

    Examples:
        >>> titles = [f"epochs {n} · flip {f}" for n in (15, 45, 150) for f in ("no", "yes")]
        >>> where_in_words(titles[2:], titles), where_in_words(titles[:1], titles)
        ('at 45 and 150 epochs', 'at 15 epochs (no flips)')
        >>> where_in_words([titles[0], titles[3]], titles)
        'at 15 epochs (no flips) and at 45 epochs (flips)'
    """
    if set(members) == set(titles):
        return _everywhere(len(titles))
    split = {title: title.split(JOIN) for title in titles}
    widths = {len(parts) for parts in split.values()}
    ways = [_covered(members, split, place) for place in range(min(widths))]
    whole, rest = min(ways, key=lambda way: (len(way[1]), len(way[0])))
    parts = [f"at {_values_in_words(whole)}"] if whole else []
    parts += [_one_regime(split[title]) for title in rest]
    if len(rest) > _MOST_RESTS:
        return f"in {len(members)} of {len(titles)} regimes"
    return joined(parts)


def _one_regime(parts: Sequence[str]) -> str:
    first, *rest = map(setting_name, parts)
    return f"at {first} ({', '.join(rest)})" if rest else f"at {first}"


def _covered(
    members: Sequence[str], split: Mapping[str, Sequence[str]], place: int
) -> tuple[list[str], list[str]]:
    """Return the values of a field whose regimes are all members, and the members left over."""
    values = dict.fromkeys(split[title][place] for title in members)
    whole = [
        value
        for value in values
        if all(title in members for title, parts in split.items() if parts[place] == value)
    ]
    return whole, [title for title in members if split[title][place] not in whole]


def _values_in_words(values: Sequence[str]) -> str:
    """Join settings of one field: "45 and 150 epochs" for "epochs 45" and "epochs 150"."""
    words = [setting_name(value).split(" ") for value in values]
    if len({tuple(each[1:]) for each in words}) == 1 and all(len(each) > 1 for each in words):
        rest = " ".join(words[0][1:])
        return f"{joined(each[0] for each in words)} {rest}"
    return joined(" ".join(each) for each in words)


def _listed(names: Sequence[str]) -> str:
    shown = [method_name(name) for name in names[:_MOST_NAMED]]
    if left := max(0, len(names) - _MOST_NAMED):
        shown.append(f"{left} more")
    return joined(shown)


def _alternatives(names: Sequence[str]) -> str:
    shown = [method_name(name) for name in names[:_MOST_NAMED]]
    if left := max(0, len(names) - _MOST_NAMED):
        shown.append(f"{left} more")
    return joined(shown, "or")


def _everywhere(regimes: int) -> str:
    return "in both regimes" if regimes == 2 else f"in all {regimes} regimes"
