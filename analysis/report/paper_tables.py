"""`tables/` beside a report: the tables that a paper needs, as LaTeX, Markdown, CSV and Parquet."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mixbench.analysis.report.data import ReportData, with_unit
from mixbench.analysis.report.files import TABLES
from mixbench.analysis.report.page import markdown
from mixbench.analysis.statistics.blocks import blocks, stratum_titles
from mixbench.analysis.statistics.metrics import GAP, Metric
from mixbench.analysis.tables.parquet import tidy
from mixbench.analysis.text import formatting
from mixbench.analysis.text.verdict import verdict_words

_LONG = 40
"""A table of more rows goes over several pages."""
_IN_LATEX = {
    **{"±": r"$\pm$", "−": "$-$", "–": "--", "·": r"$\cdot$", "→": r"$\to$", "\u00a0": "~"},
    **{"α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "λ": r"$\lambda$", "σ": r"$\sigma$"},
    **{"≤": r"$\leq$", "≥": r"$\geq$", "×": r"$\times$", "…": r"\ldots{}", "∞": r"$\infty$"},
}
"""What LaTeX has in mathematics, or writes otherwise."""
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"<": "$<$", ">": "$>$"},
    # At the start of a row it would belong to the end of the row before.
    "[": "{[}",
}


@dataclass(frozen=True)
class PaperTable:
    """A table as people read it, and as programs do.

    Attributes:
        name: Of its files.
        caption: What it shows.
        shown: Texts, a column each.
        numbers: The same in full, in the metrics' own units.
        bold: (row, column) of the entries that stand out.
    """

    name: str
    caption: str
    shown: pd.DataFrame
    numbers: pd.DataFrame
    bold: frozenset[tuple[int, str]] = frozenset()

    def files(self) -> dict[str, str | bytes]:
        """Return path below the report -> content, of all its files."""
        parquet = io.BytesIO()
        tidy(self.numbers).to_parquet(parquet, compression="zstd")
        return {
            f"{TABLES}/{self.name}.tex": latex(self),
            f"{TABLES}/{self.name}.md": as_markdown(self),
            f"{TABLES}/{self.name}.csv": self.numbers.to_csv(index=False),
            f"{TABLES}/{self.name}.parquet": parquet.getvalue(),
        }


def table_files(data: ReportData) -> dict[str, str | bytes]:
    """Return the files of `tables/`: the results by configuration, the contrasts, and all runs."""
    runs = io.BytesIO()
    tidy(data.tables.runs).to_parquet(runs, compression="zstd")
    tables = [results_table(data), contrasts_table(data)]
    files: dict[str, str | bytes] = {f"{TABLES}/runs.parquet": runs.getvalue()}
    for table in tables:
        if len(table.shown):
            files |= table.files()
    return files


def results_table(data: ReportData) -> PaperTable:
    """Return a row per configuration: means of the metrics, and the difference to the baseline.

    What people read has the metrics that say which is better, and one of NLL and Brier score, so
    that it fits on a page; the numbers have all.
    """
    compared = data.comparison
    primary = compared.primary
    titled = blocks(compared.cells)
    titles = stratum_titles(title for title, _ in titled)
    shown: list[dict[str, Any]] = []
    numbers: list[dict[str, Any]] = []
    bold = set()
    column = with_unit(primary)
    for title, (_, members) in zip(titles, titled, strict=True):
        best = compared.best.get(int(members["block"].iloc[0]), ())
        for cell in members.itertuples():
            key = str(cell.cell_key)
            setting = {"Setting": title} if len(titled) > 1 else {}
            exact: dict[str, Any] = {"setting": title, "method": str(cell.series), "cell_key": key}
            entries: dict[str, Any] = {**setting, "Method": str(cell.series), "n": str(cell.done)}
            for metric in compared.metrics:
                text, some = _estimate(data, key, metric)
                exact |= some
                if metric.better and metric.key != "test/brier":
                    entries[with_unit(metric)] = text
            if compared.has_baseline:
                entries[_difference_title(primary)], some = _difference(data, key, primary)
                exact |= {"n": int(str(cell.done)), **some}
            if key in best:
                bold.add((len(shown), column))
            shown.append(entries)
            numbers.append(exact)
    unit = compared.unit
    caption = (
        f"{_name(data)}: means with 95% t intervals over {unit}s. Bold: can't be told apart from "
        f"the best in {primary.title.lower() if not primary.title.isupper() else primary.title}."
    )
    if compared.has_baseline:
        caption += (
            f" Differences to the baseline are paired by {unit}, with intervals that hold "
            "together at 95%."
        )
    frame = pd.DataFrame(shown)
    return PaperTable("results", caption, frame, pd.DataFrame(numbers), frozenset(bold))


def contrasts_table(data: ReportData) -> PaperTable:
    """Return a row per contrast: those that the sweep declares, else those with the baseline."""
    compared = data.comparison
    names = dict(zip(compared.cells["cell_key"], compared.cells["series"], strict=True))
    if compared.declared is not None:
        metric = compared.declared.metric
        judged = [(one.label, one.against, one.contrast) for one in compared.declared.contrasts]
    else:
        metric = compared.primary
        of_metric = compared.of_metric(metric.key).values()
        judged = [(str(names[c.cell]), str(names[c.against]), c) for c in of_metric]
    decimals = data.difference_decimals(metric)
    several = len({contrast.stratum for _, _, contrast in judged}) > 1
    shown, numbers = [], []
    for label, against, contrast in judged:
        p = contrast.p_better
        shown.append(
            {
                **({"Setting": contrast.stratum} if several else {}),
                "Contrast": f"{label} − {against}",
                "n": str(contrast.n),
                _difference_title(metric): formatting.difference(
                    contrast, metric.percent, decimals
                ),
                "p": formatting.p_value(contrast.p),
                "P(better by the margin)": formatting.MISSING if p is None else f"{p:.2f}",
                "Verdict": verdict_words(contrast, compared.unit),
            }
        )
        numbers.append(
            {
                "setting": contrast.stratum,
                "method": label,
                "against": against,
                "metric": metric.key,
                **{name: getattr(contrast, name) for name in ("n", "difference", "low", "high")},
                "p": contrast.p,
                "p_better_than_margin": contrast.p_better,
                "margin": contrast.margin,
                "verdict": str(contrast.verdict),
                "detectable": contrast.detectable,
                "more_replicates": contrast.more_replicates,
            }
        )
    caption = (
        f"{_name(data)}: differences in {metric.key}, paired by {compared.unit}, with intervals "
        f"that hold together at 95% and verdicts at a margin of {metric.margin}."
    )
    return PaperTable("contrasts", caption, pd.DataFrame(shown), pd.DataFrame(numbers))


def latex(table: PaperTable) -> str:
    r"""Return a table for LaTeX, with rules of booktabs; `\input{results}` puts it into a paper."""
    stands_out = pd.DataFrame("", index=table.shown.index, columns=table.shown.columns)
    for row, column in table.bold:
        stands_out.loc[row, column] = "textbf:--rwrap;"
    style = table.shown.map(_escaped).style.hide(axis="index")
    style = style.apply(lambda _: stands_out, axis=None)
    style = style.format_index(_escaped, axis=1)
    is_long = len(table.shown) > _LONG
    texts = ("Setting", "Method", "Contrast", "Verdict")
    text = style.to_latex(
        hrules=True,
        caption=_escaped(table.caption),
        label=f"tab:{table.name}",
        column_format="".join("l" if name in texts else "r" for name in table.shown.columns),
        environment="longtable" if is_long else None,
        position=None if is_long else "t",
        position_float=None if is_long else "centering",
    )
    packages = "booktabs, longtable" if is_long else "booktabs"
    return f"% \\usepackage{{{packages.replace(', ', ',')}}}\n{text}"


def as_markdown(table: PaperTable) -> str:
    """Return a table for Markdown, its caption below it."""
    heads = list(table.shown.columns)
    lines = [_line(map(markdown, heads)), _line(["---"] * len(heads))]
    for row, entries in enumerate(table.shown.to_dict("records")):
        cells = [
            f"**{markdown(text)}**" if (row, name) in table.bold else str(markdown(text))
            for name, text in ((str(key), value) for key, value in entries.items())
        ]
        lines.append(_line(cells))
    return "\n".join([*lines, "", str(markdown(table.caption)), ""])


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _escaped(text: object) -> str:
    """Return any text as LaTeX shows it."""
    line = " ".join(str(text).replace("\u00a0", "\0").split()).replace("\0", "\u00a0")
    return "".join(_SPECIAL.get(one) or _IN_LATEX.get(one, one) for one in line)


def _name(data: ReportData) -> str:
    return data.folder.name


def _difference_title(metric: Metric) -> str:
    return f"Difference{', points' if metric.percent else ''}"


def _estimate(data: ReportData, key: str, metric: Metric) -> tuple[str, Mapping[str, Any]]:
    value = data.comparison.estimates[key, metric.key]
    decimals = data.decimals(metric)
    text = formatting.number(value.mean, metric.percent, decimals, sign=metric.key == GAP)
    if value.half_width is not None:
        text += f" ± {formatting.number(value.half_width, metric.percent, decimals)}"
    return text, {metric.key: value.mean, f"{metric.key} half width": value.half_width}


def _difference(data: ReportData, key: str, metric: Metric) -> tuple[str, Mapping[str, Any]]:
    contrast = data.comparison.differences.get((key, metric.key))
    names: Sequence[str] = ("difference", "low", "high", "p")
    if contrast is None:
        return "", {**dict.fromkeys(names), "verdict": None}
    decimals = data.difference_decimals(metric)
    exact = {name: getattr(contrast, name) for name in names}
    shown = formatting.difference(contrast, metric.percent, decimals)
    return shown, {**exact, "verdict": str(contrast.verdict)}
