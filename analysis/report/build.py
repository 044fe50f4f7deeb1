"""The report of a sweep: report.html, report.md, runs.csv and figures, from its run folders."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup

from mixbench.analysis.figures import summary
from mixbench.analysis.figures.palette import DARK, LIGHT
from mixbench.analysis.report import measurements, sections
from mixbench.analysis.report.parts import Cell, Figure, Row, both
from mixbench.analysis.statistics import comparison as comparing
from mixbench.analysis.statistics.comparison import ACCURACY, Baseline, Comparison, Metric
from mixbench.analysis.statistics.tests import is_number
from mixbench.analysis.tables.labels import factor_text, flatten, value_text
from mixbench.analysis.tables.load import Tables, load
from mixbench.analysis.tables.nested_methods import in_full
from mixbench.analysis.tables.schedules import PHASES
from mixbench.analysis.text import formatting
from mixbench.analysis.text.caveats import caveats, why_missing
from mixbench.analysis.text.verdict import LEVEL, Verdict, standing, verdict
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.files import atomic_write
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder

PANELS = 12
"""Reliability diagrams in one figure; a larger sweep gets several figures."""
MOST_PANELS = 48


@dataclass(frozen=True)
class Report:
    """What was written, and what it says."""

    folder: Path
    html: Path
    markdown: Path
    csv: Path
    figures: tuple[Path, ...]
    verdict: Verdict
    warnings: tuple[str, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.html, self.markdown, self.csv, *self.figures)


@dataclass(frozen=True)
class _Sweep:
    """All that the pages are made of."""

    name: str
    description: str
    spec: Mapping[str, Any]
    commit: str | None
    tables: Tables
    comparison: Comparison
    folder: SweepFolder
    fixed: dict[str, Any] = field(default_factory=dict)


def write_report(
    sweep_folder: SweepFolder, out_dir: Path | None = None, baseline: Baseline = None
) -> Report:
    """Write the report of whatever is finished, to `<sweep>/report` or `out_dir`.

    baseline: which cells the others are compared with, see
    `mixbench.analysis.statistics.comparison.compare`; None
    takes the sweep's own, or augmentation "none". Every file is written whole or not at all.
    UserError when no run has finished, or the baseline fits no cell.
    """
    tables = load(sweep_folder)
    done = int((tables.runs["state"] == RunState.DONE).sum())
    if not done:
        raise UserError(
            f"sweep {sweep_folder.name!r}: none of its {len(tables.runs)} runs has finished, so "
            f"there is nothing to report{_reasons(tables.runs)}"
        )
    spec = sweep_folder.spec
    compared = comparing.compare(tables.cells, tables.runs, spec.get("baseline"), baseline)
    fixed = {
        column: tables.runs[column].iloc[0]
        for column in tables.config_columns
        if tables.runs[column].map(value_text).nunique() == 1
    }
    sweep = _Sweep(
        sweep_folder.name,
        sweep_folder.description,
        spec,
        sweep_folder.commit,
        tables,
        compared,
        sweep_folder,
        fixed,
    )
    said = verdict(compared, _setting(sweep))
    warnings = caveats(compared, tables.runs, spec, tables.pretraining)
    strip, drawn = _mixed(sweep), _figures(sweep)
    further = measurements.parts(sweep_folder, tables, compared)
    context = {
        "name": sweep.name,
        "description": sweep.description,
        "summary": _summary(sweep),
        "verdict": said,
        "bins": _bins(sweep),
        "warnings": warnings,
        "strip": strip,
        "main": _main_table(sweep),
        "others": _difference_table(sweep),
        "comparisons": sum(
            1
            for (_, key), difference in compared.differences.items()
            if key == ACCURACY.key and difference.p is not None
        ),
        "occluded": _occluded(sweep),
        "pivots": sections.pivot_tables(tables, compared),
        "pretraining": sections.pretraining_table(tables),
        "schedules": sections.schedule_words(tables),
        "figures": drawn,
        "measurements": further,
        "setup": _setup(sweep),
        "methods": _methods(sweep),
        "runs": _run_table(sweep),
        "done": done,
        "planned": len(tables.runs),
        "provenance": _provenance(sweep),
        "commands": _commands(sweep, baseline, further),
        "spec": yaml.safe_dump(dict(spec), sort_keys=False, allow_unicode=True).strip(),
    }
    pages = _pages(context)
    out = Path(out_dir) if out_dir is not None else sweep_folder.path / "report"
    pictures = [*([strip] if strip else []), *drawn]
    pictures += [figure for part in further for figure in part.figures]
    return _write(out, pages, _csv(tables), pictures, said, warnings)


def _csv(tables: Tables) -> str:
    """All runs; those that others start from are marked, where there are such."""
    if tables.pretraining.empty:
        return tables.runs.to_csv(index=False)
    parts = [tables.runs.assign(pretraining=False), tables.pretraining.assign(pretraining=True)]
    return pd.concat([part.astype(object) for part in parts]).to_csv(index=False)


def _reasons(runs: pd.DataFrame) -> str:
    states = ", ".join(f"{n} {state}" for state, n in runs["state"].value_counts().items())
    errors = runs.loc[runs["state"] == RunState.FAILED, "failure"]
    first = f"; the first error: {errors.iloc[0]}" if len(errors) else ""
    return f" ({states}{first})"


def _write(
    out: Path,
    pages: Mapping[str, str],
    csv: str,
    drawn: Sequence[Figure],
    said: Verdict,
    warnings: Sequence[str],
) -> Report:
    (out / "figures").mkdir(parents=True, exist_ok=True)
    written = []
    for figure in drawn:
        written.append(out / "figures" / figure.name)
        atomic_write(written[-1], figure.light)
    # Figures of an earlier report that this one doesn't have would be taken for its own.
    for stale in set((out / "figures").glob("*.png")) - set(written):
        if _OURS.fullmatch(stale.name):
            stale.unlink(missing_ok=True)
    atomic_write(out / "runs.csv", csv)
    atomic_write(out / "report.md", pages["report.md"])
    atomic_write(out / "report.html", pages["report.html"])
    return Report(
        out,
        out / "report.html",
        out / "report.md",
        out / "runs.csv",
        tuple(written),
        said,
        tuple(warnings),
    )


_OURS = re.compile(r"(mixed|methods|schedules|occlusion|(reliability|measured-\w+)(-\d+)?)\.png")


def _pages(context: Mapping[str, Any]) -> dict[str, str]:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mixbench.analysis", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = markdown
    environment.filters["fenced"] = fenced
    return {
        name: environment.get_template(name).render(context)
        for name in ("report.html", "report.md")
    }


def markdown(text: object) -> str:
    """Any text as one line of Markdown that shows it and does nothing else."""
    line = " ".join(str(text).split())
    line = re.sub(r"([\\`*\[\]|~])", r"\\\1", line)
    # An underscore inside a word is harmless, and random\_erasing is ugly to read.
    line = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", line)
    line = re.sub(r"^([#+-]|\d+[.)])(?=\s)", r"\\\1", line)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Markup(line)


def fenced(text: object) -> str:
    """Any text as a fenced block of Markdown; the fence is longer than any in the text."""
    ticks = max((len(run) for run in re.findall(r"`+", str(text))), default=0)
    fence = "`" * max(3, ticks + 1)
    return Markup(f"{fence}\n{text}\n{fence}")


def _setting(sweep: _Sweep) -> str:
    """Data set, size, model and regime, as far as they are the same in all runs."""
    runs = sweep.tables.runs
    parts = [formatting.joined(_short_dataset(name) for name in runs["dataset.name"].unique())]
    if (train := _only(runs, "data.train")) is not None:
        parts.append(f"{int(train):,} training images")
    parts.append(formatting.joined(map(str, runs["model.name"].unique())))
    if (epochs := sweep.fixed.get("training.epochs")) is not None:
        parts.append(formatting.count(int(epochs), "epoch"))
    return ", ".join(parts)


def _summary(sweep: _Sweep) -> str:
    cells, runs = sweep.tables.cells, sweep.tables.runs
    seeds = runs["seed"].unique()
    return " · ".join(
        [
            _setting(sweep),
            formatting.count(len(cells), "configuration"),
            f"{formatting.count(len(seeds), 'seed')} ({formatting.seeds(map(int, seeds))})",
            f"{int((runs['state'] == 'done').sum())} of {len(runs)} runs done",
        ]
    )


def _occluded(sweep: _Sweep) -> str:
    """How many of the test images were occluded, where that is not all of them."""
    images = sweep.fixed.get("evaluation.occlusion.images")
    total = _only(sweep.tables.runs, "data.test")
    if images is None or total is None or images >= total:
        return ""
    return f"Occlusion: {int(images):,} of the {int(total):,} test images."


def _short_dataset(name: str) -> str:
    kind, colon, path = str(name).partition(":")
    return f"{kind}:{Path(path).name}" if colon else kind


def _only(runs: pd.DataFrame, column: str) -> Any:
    """The one value of a column among the finished runs, None when there are more or none."""
    if column not in runs:
        return None
    values = runs.loc[runs["state"] == RunState.DONE, column].dropna().unique()
    return values[0] if len(values) == 1 else None


def _decimals(sweep: _Sweep, metric: Metric) -> int:
    widths = [
        value.half_width
        for (_, key), value in sweep.comparison.estimates.items()
        if key == metric.key
    ]
    return formatting.digits(widths, metric.percent)


def _difference_decimals(sweep: _Sweep, metric: Metric) -> int:
    found = [d for (_, key), d in sweep.comparison.differences.items() if key == metric.key]
    return formatting.difference_digits(found, metric.percent, _decimals(sweep, metric))


def _bins(sweep: _Sweep) -> str:
    bins = sweep.fixed.get("evaluation.ece_bins")
    return f"top label, {bins} equal-width bins" if bins is not None else "top label"


def _unit(metric: Metric, unit: str = "%") -> str:
    unit = "points" if metric.key == "test/gap" else unit
    return f"{metric.title}{f', {unit}' if metric.percent else ''}"


def _main_table(sweep: _Sweep) -> dict[str, Any]:
    compared = sweep.comparison
    has_differences = bool(compared.differences)
    columns = ["Seeds"]
    for metric in compared.metrics:
        columns.append(_unit(metric))
        if metric is ACCURACY and has_differences:
            columns += ["Difference, points", "Holm\u00a0p"]
    rows = []
    for heading, members in comparing.blocks(compared.cells):
        if heading:
            rows.append(Row(heading, heading=True))
        for cell in members.itertuples():
            is_baseline = str(cell.baseline_key) == str(cell.cell_key) and has_differences
            if not cell.done:
                missing = sweep.tables.runs[sweep.tables.runs["cell_key"] == cell.cell_key]
                rows.append(Row(str(cell.series), note=f"no finished run: {why_missing(missing)}"))
                continue
            rows.append(
                Row(
                    str(cell.series),
                    tuple(_main_cells(sweep, str(cell.cell_key))),
                    is_baseline=is_baseline,
                )
            )
    return {"columns": columns, "rows": rows, "has_differences": has_differences}


def _main_cells(sweep: _Sweep, key: str) -> list[Cell]:
    compared = sweep.comparison
    cells = []
    for place, metric in enumerate(compared.metrics):
        value = compared.estimates[key, metric.key]
        decimals = _decimals(sweep, metric)
        if place == 0:
            done = compared.cells.set_index("cell_key").loc[key, "done"]
            cells.append(Cell(str(done)))
        sign = metric.key == "test/gap"
        minor = ""
        if value.half_width is not None:
            minor = f"± {formatting.number(value.half_width, metric.percent, decimals)}"
        cells.append(
            Cell(formatting.number(value.mean, metric.percent, decimals, sign=sign), minor)
        )
        if metric is ACCURACY and compared.differences:
            decimals = _difference_decimals(sweep, metric)
            cells += _difference_cells(compared, key, metric, decimals)
    return cells


def _difference_cells(compared: Comparison, key: str, metric: Metric, decimals: int) -> list[Cell]:
    difference = compared.differences.get((key, metric.key))
    if difference is None:
        own = compared.cells.set_index("cell_key").loc[key, "baseline_key"] == key
        return [Cell("baseline" if own else "no baseline"), Cell("")]
    kind = standing(difference, metric.better)
    # A gap is neither good nor bad by its sign.
    tone = {"ahead": "good", "behind": "bad"}.get(kind, "") if metric.better else ""
    mean = formatting.number(difference.mean, metric.percent, decimals, sign=True)
    interval = formatting.interval(difference, metric.percent, decimals)
    minor = "" if interval == formatting.MISSING else interval
    return [Cell(mean, minor, tone), Cell(formatting.p_value(difference.p_holm))]


def _difference_table(sweep: _Sweep) -> dict[str, Any] | None:
    """Paired differences on every measure but accuracy, each its own Holm family."""
    compared = sweep.comparison
    metrics = [
        metric
        for metric in compared.metrics
        if metric is not ACCURACY and (metric.better or metric.key == "test/gap")
    ]
    if not compared.differences or not metrics:
        return None
    rows: list[Row] = []
    for heading, members in comparing.blocks(compared.cells):
        made = []
        for cell in members.itertuples():
            key = str(cell.cell_key)
            if not cell.done or (key, metrics[0].key) not in compared.differences:
                continue
            entries = tuple(
                _difference_cells(compared, key, metric, _difference_decimals(sweep, metric))[0]
                for metric in metrics
            )
            made.append(Row(str(cell.series), entries))
        if made and heading:
            rows.append(Row(heading, heading=True))
        rows += made
    columns = [_unit(metric, "points") for metric in metrics]
    return {"columns": columns, "rows": rows}


def _mixed(sweep: _Sweep) -> Figure | None:
    """The strips: the first run that drew one, for each augmentation on each data set."""
    runs, cells = sweep.tables.runs, sweep.comparison.cells
    method = dict(zip(cells["cell_key"], cells["method"], strict=True))
    strips: dict[tuple[str, str], Path] = {}
    for run in runs.to_dict("records"):
        heading = _short_dataset(run["dataset.name"])
        size = run.get("dataset.image_size")
        if runs["dataset.image_size"].nunique() > runs["dataset.name"].nunique():
            heading = f"{heading}, {value_text(size)} pixels"
        name = method[run["cell_key"]] or run["augmentation.name"]
        path = sweep.folder.path / "runs" / run["run_key"] / "mixed.png"
        if (heading, name) not in strips and summary.is_image(path):
            strips[heading, name] = path
    if not strips:
        return None
    headings = list(dict.fromkeys(heading for heading, _ in strips))
    rows = [
        (heading if len(headings) > 1 else "", name, strips[heading, name])
        for heading in headings
        for first, name in strips
        if first == heading
    ]
    return Figure(
        "mixed.png",
        "What each method does",
        "The same training images in every row; strength and region are drawn per sample.",
        f"Strips of training images mixed by {formatting.joined(name for _, name, _ in rows)}",
        summary.mixed_figure(rows, LIGHT),
        summary.mixed_figure(rows, DARK),
    )


def _figures(sweep: _Sweep) -> list[Figure]:
    compared, tables = sweep.comparison, sweep.tables
    drawn = []
    means = pd.DataFrame(
        [
            {"cell_key": cell, "metric": metric, "mean": e.mean, "low": e.low, "high": e.high}
            for (cell, metric), e in compared.estimates.items()
        ]
    )
    shown = [
        m
        for m in compared.metrics
        if m.key in (ACCURACY.key, "test/ece") or m.key.startswith("occlusion/")
    ]
    seeds = tables.runs[["cell_key", *(metric.key for metric in shown)]].melt(
        id_vars="cell_key", var_name="metric", value_name="value"
    )
    seeds = seeds.dropna(subset=["value"])
    reference = " The dashed line is the mean of the baseline." if compared.has_baseline else ""
    if shown:
        drawn.append(
            both(
                "methods.png",
                "Accuracy, calibration and robustness by method",
                "Mean with its 95% t interval over seeds (an arrowhead: it goes on beyond the "
                "panel); the small dots are single seeds."
                f"{reference} Intervals of two methods may overlap although their paired "
                "difference is clear, as that is taken seed by seed.",
                f"Dot plot of {formatting.joined(metric.title for metric in shown)} by method",
                lambda paper: summary.methods_figure(compared.cells, means, seeds, shown, paper),
            )
        )
    drawn += sections.schedule_figures(tables)
    curves = comparing.occlusion_summary(tables.occlusion)
    if len(curves):
        classes = len(tables.classes)
        has_bands = curves["n"].max() >= summary.BAND_SEEDS
        bands = " with 95% t bands" if has_bands else ", too few for bands"
        chance = 1 / classes if classes and tables.runs["dataset.name"].nunique() == 1 else None
        drawn.append(
            both(
                "occlusion.png",
                "Accuracy under occlusion",
                f"Test accuracy with a part of each image hidden, mean over seeds{bands}. "
                "Each image has one mask, the same for all models. Hidden parts are rectangles of "
                "the mean colour; a model that was trained on such (cutout, random_erasing) has "
                "an advantage here that other hidden parts would not give it.",
                "Curves of test accuracy over the hidden part of the image, one per method",
                lambda paper: summary.occlusion_figure(compared.cells, curves, paper, chance),
            )
        )
    return [*drawn, *_reliability_figures(sweep)]


def _reliability_figures(sweep: _Sweep) -> list[Figure]:
    compared = sweep.comparison
    bins = comparing.pooled_reliability(sweep.tables.reliability)
    if bins.empty:
        return []
    notes = {}
    for key in compared.cells["cell_key"]:
        ece = compared.estimates.get((key, "test/ece"))
        gap = compared.estimates.get((key, "test/gap"))
        notes[key] = summary.calibration_note(
            ece.mean if ece is not None else None, gap.mean if gap is not None else None
        )
    cells = compared.cells[compared.cells["cell_key"].isin(bins["cell_key"])]
    total = len(cells)
    cells = cells.iloc[:MOST_PANELS]
    count = -(-len(cells) // PANELS)
    size = -(-len(cells) // count)
    left = (
        f" The first {MOST_PANELS} of {total} configurations are shown."
        if (total > MOST_PANELS)
        else ""
    )
    drawn = []
    for number in range(count):
        part = cells.iloc[number * size : (number + 1) * size]["cell_key"]
        own = bins[bins["cell_key"].isin(part)]
        drawn.append(
            both(
                "reliability.png" if count == 1 else f"reliability-{number + 1}.png",
                "Reliability" if count == 1 else f"Reliability, {number + 1} of {count}",
                "Accuracy over confidence, test images of all seeds pooled, with the share of "
                "images in each bin below. Below the diagonal a model is over-confident. Hollow "
                f"points have fewer than {summary.THIN_BIN} images. ECE and the signed gap "
                f"(confidence − accuracy, in points) are means over seeds.{left}",
                "Reliability diagrams, one per method",
                partial(summary.reliability_figure, compared.cells, own, notes),
            )
        )
    return drawn


def _setup(sweep: _Sweep) -> list[tuple[str, str]]:
    """What all runs share, section by section, and what varies."""
    rows = []
    runs = sweep.tables.runs
    sizes = [
        f"{words} {int(value):,}"
        for words, column in (
            ("training", "data.train"),
            ("validation", "data.validation"),
            ("test", "data.test"),
            ("classes", "data.classes"),
        )
        if (value := _only(runs, column)) is not None
    ]
    if sizes:
        rows.append(("Images", ", ".join(sizes)))
    shared: dict[str, list[str]] = {}
    for key, value in sweep.fixed.items():
        section, _, name = key.partition(".")
        if section == "augmentation" or value is None or key == PHASES:
            continue
        text = _short_dataset(value) if key == "dataset.name" else _listed(value)
        if section == "transfer":
            shared.setdefault(section, []).append(_varying(sweep, key, value))
            continue
        words = re.sub(r"[._]", " ", name)
        shared.setdefault(section, []).append(text if name == "name" else f"{words} {text}")
    for section, texts in shared.items():
        rows.append((section.capitalize(), "; ".join(texts)))
    varying = [
        column
        for column in sweep.tables.config_columns
        if column not in sweep.fixed and not column.startswith("augmentation.") and column != PHASES
    ]
    for column in varying:
        values = [_varying(sweep, column, value) for value in runs[column].unique()]
        rows.append((f"{column} (varies)", ", ".join(dict.fromkeys(values))))
    return rows


def _varying(sweep: _Sweep, column: str, value: Any) -> str:
    if column.startswith("transfer."):
        return factor_text("", column, value, sweep.tables.origins)
    return value_text(value)


def _listed(value: Any) -> str:
    """A value of a configuration; a list without its brackets and quotes."""
    text = value_text(value)
    return (re.sub(r"[\[\]\"]", "", text) or "none given") if text.startswith("[") else text


def _methods(sweep: _Sweep) -> list[tuple[str, str]]:
    """Every augmentation of the sweep with all its parameters."""
    found: dict[str, str] = {}
    configs = {run.cell_key: run.config for run in sweep.folder.plan()}
    for cell in sweep.comparison.cells.itertuples():
        parameters = flatten(configs[str(cell.cell_key)]["augmentation"])
        name = parameters.pop("name")
        texts = []
        if "methods" in parameters:
            texts.append(in_full(parameters.pop("methods"), {**parameters, "name": name}, _said))
        texts += [_said(key, value) for key, value in parameters.items()]
        found.setdefault(str(cell.method or name), "; ".join(texts) or "no parameters")
    return list(found.items())


def _said(key: str, value: Any) -> str:
    return f"{key.replace('_', ' ')} {_listed(value)}"


def _run_table(sweep: _Sweep) -> dict[str, Any]:
    metrics = sweep.comparison.metrics
    columns = ["Run", "Seed", "State", *map(_unit, metrics), "Training"]
    rows = []
    for run in sweep.tables.runs.to_dict("records"):
        head = (Cell(run["run_key"]), Cell(str(run["seed"])), Cell(run["state"]))
        if run["state"] != RunState.DONE:
            rows.append(Row(run["label"], head, note=run["failure"] or run["progress"]))
            continue
        seconds = run.get("timing.train_seconds")
        values = tuple(
            Cell(
                formatting.number(
                    run[m.key], m.percent, 2 if m.percent else 3, sign=m.key == "test/gap"
                )
            )
            for m in metrics
        )
        time_text = formatting.duration(seconds if is_number(seconds) else None)
        rows.append(Row(run["label"], (*head, *values, Cell(time_text))))
    return {"columns": columns, "rows": rows}


def _provenance(sweep: _Sweep) -> list[tuple[str, str]]:
    runs = sweep.tables.runs
    done = runs[runs["state"] == RunState.DONE]
    rows = []
    for title, column in (
        ("Data found at", "data.source"),
        ("Data digest", "data.digest"),
        ("mixbench", "provenance.mixbench"),
        ("Commit", "provenance.commit"),
        ("Python", "provenance.python"),
        ("torch", "provenance.torch"),
        ("Device", "provenance.device"),
        ("Threads per run", "provenance.threads"),
        ("Hosts", "provenance.host"),
    ):
        values = list(dict.fromkeys(map(str, done[column].dropna()))) if column in done else []
        if values:
            more = f" and {len(values) - 6} more" if len(values) > 6 else ""
            rows.append((title, ", ".join(values[:6]) + more))
    if not any(title == "Commit" for title, _ in rows) and sweep.commit:
        rows.append(("Commit", sweep.commit))
    begun, ended = _times(done, "provenance.started"), _times(done, "provenance.finished")
    if begun and ended:
        rows.append(("Runs", f"{_date(min(begun))} to {_date(max(ended))} UTC"))
    seconds = [
        value
        for column in ("timing.setup_seconds", "timing.train_seconds", "timing.evaluate_seconds")
        for value in _times(done, column)
    ]
    if seconds:
        rows.append(("Time in all runs", formatting.duration(sum(seconds))))
    rows.append(("Run folders", f"{sweep.name}/runs/<run key>"))
    return rows


def _times(done: pd.DataFrame, column: str) -> list[float]:
    return [float(v) for v in done[column] if is_number(v)] if column in done else []


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))


def _commands(
    sweep: _Sweep, baseline: Baseline, further: Sequence[measurements.Part] = ()
) -> list[str]:
    overrides = sweep.spec.get("overrides")
    changes = _set(overrides) if isinstance(overrides, Mapping) else ""
    report = f"mixbench report {shlex.quote(sweep.name)}"
    if baseline is not None:
        wanted = comparing.parse_baseline(baseline) or {}
        text = ",".join(f"{key}={_plain(value)}" for key, value in wanted.items())
        report += f" --baseline {shlex.quote(text)}"
    evaluate = []
    if further:
        names = ",".join(part.name for part in further)
        settings = {key: value for part in further for key, value in part.changed.items()}
        evaluate.append(
            f"mixbench evaluate {shlex.quote(sweep.name)} --only {names}{_set(settings)}"
        )
    return [f"mixbench sweep {_what_was_run(sweep)}{changes}", *evaluate, report]


def _set(changes: Mapping[str, Any]) -> str:
    """The options `--set KEY=VALUE` of a command."""
    options = ""
    for key, value in changes.items():
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
        text = text.strip().removesuffix("\n...").strip()
        options += f" --set {shlex.quote(f'{key}={text}')}"
    return options


def _what_was_run(sweep: _Sweep) -> str:
    """The sweep as `mixbench sweep` takes it: one that has sizes needs its size."""
    scale = sweep.spec.get("scale")
    if not isinstance(scale, Mapping):
        return shlex.quote(sweep.name)
    said = f"{shlex.quote(str(scale['sweep']))} --scale {shlex.quote(str(scale['scale']))}"
    usual = f"{scale['sweep']}_{scale['scale']}"
    return said if sweep.name == usual else f"{said} --name {shlex.quote(sweep.name)}"


def _plain(value: Any) -> str:
    return (
        {True: "true", False: "false", None: "null"}.get(value, str(value))
        if (value is None or isinstance(value, bool))
        else str(value)
    )


__all__ = ["LEVEL", "Report", "write_report"]
