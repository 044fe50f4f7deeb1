"""What `mixbench evaluate` measured is in the report; without it the report has no word of it."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mixbench.analysis.report.build import Report, write_report
from mixbench.analysis.report.data import collect
from mixbench.analysis.report.measurements import catalogue, figures, home
from mixbench.analysis.report.measurements.curves import Curves, reliability_bins
from mixbench.analysis.report.measurements.load import load_measured
from mixbench.analysis.report.measurements.table import (
    compare_measurement,
    significant_decimals,
)
from mixbench.analysis.report.sections.measurements import part_of
from mixbench.analysis.statistics.comparison import compare
from mixbench.analysis.tables.load import load
from mixbench.analysis.text.names import method_name
from mixbench.experiments.evaluation.catalogue import MEASUREMENTS
from mixbench.experiments.store import evaluations
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import measured_sweeps
from tests.support.written_sweeps import METHODS, grid, write_sweep

DRAWN = (
    "calibration",
    "overfitting",
    "bias_variance",
    "corruption",
    "attack",
    "patch",
    "smoothness",
    "boundary",
    "shift",
    "hiding",
    "localisation",
    "gradient_noise",
    "object_share",
)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    """Three methods, five seeds; everything measured, and `novel` and `wide` of a few runs."""
    folder = write_sweep(tmp_path_factory.mktemp("runs"), "study", grid(METHODS[:3]))
    measured_sweeps.measure(folder)
    runs = folder.plan()
    for run in (runs[0], runs[1], runs[5], runs[6]):
        value = {0: 1.0, 1: 2.0, 5: 1.5, 6: 2.75}[runs.index(run)]
        measured_sweeps.write(run, "novel", metrics={"novel/thing": value, "novel/empty": None})
        measured_sweeps.write(run, "wide", metrics={f"wide/{n}": n + value for n in range(12)})
    evaluations.fail(runs[2].folder, "novel", "UserError: no such luck\nmore")
    evaluations.fail(runs[7].folder, "novel", "nothing to see", settings={})
    evaluations.clear_failure(runs[0].folder, "localisation")
    (runs[0].folder.path / "evaluations" / "localisation.json").unlink()
    evaluations.fail(runs[0].folder, "localisation", "no places", settings={})
    measured_sweeps.write(
        runs[1], "attack", settings={"steps": 3}, **measured_sweeps.contents(runs[1])["attack"]
    )
    return folder


@pytest.fixture(scope="module")
def report(sweep: SweepFolder, on_light_paper: None) -> Report:
    return write_report(sweep)


@pytest.fixture(scope="module")
def text(report: Report) -> str:
    return report.markdown.read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """What stands under a heading of the third level."""
    found = re.search(rf"^### {title}\n(.*?)(?=^##)", text, re.S | re.M)
    assert found is not None, title
    return found[1]


def rows(part: str) -> dict[str, list[str]]:
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {line[0]: line[1:] for line in cells}


def test_without_measurements_nothing_is_added(tmp_path: Path, without_pictures: None) -> None:
    folder = write_sweep(tmp_path, "plain", grid(METHODS[:1], range(1)))
    assert not load_measured(folder, load(folder).runs)
    made = write_report(folder)
    for page in (made.html, made.markdown):
        found = page.read_text(encoding="utf-8")
        assert "Further measurements" not in found and "evaluate " not in found
    # A section that is not there leaves no line behind.
    assert "\n\n\n## Set-up" not in made.markdown.read_text(encoding="utf-8")
    assert not [path for path in made.figures if path.name.startswith("measured")]


def test_every_measurement_is_there_in_the_order_of_the_catalogue(text: str) -> None:
    part = text.partition("## Further measurements")[2].partition("## Set-up")[0]
    titles = re.findall(r"^### (.*)$", part, re.M)
    assert titles == [
        *map(catalogue.title, DRAWN[:3]),
        "Hidden parts",
        "Common corruptions",
        "Attacks",
        "Patches",
        "Smoothness",
        "Decision boundaries",
        "Shift",
        "Localisation",
        "Gradient noise",
        "Object share",
        "Novel",
        "Wide",
    ]
    assert catalogue.names() == list(MEASUREMENTS)


def test_figures_of_each_on_both_papers(report: Report) -> None:
    names = {path.name for path in report.figures}
    assert {f"measured-{name}.png" for name in DRAWN} <= names
    assert "measured-localisation-2.png" in names
    parts = ("calibration", "files", "files-calibration")
    assert {f"measured-corruption-{part}.png" for part in parts} <= names
    assert {"measured-hiding_gains.png", "measured-object_share_gains.png"} <= names
    assert {"measured-attack-fit.png", "measured-attack-curve.png"} <= names
    assert not [name for name in names if "novel" in name or "wide" in name]
    page = report.html.read_text(encoding="utf-8")
    narrow = page.count('media="(max-width: 46rem)"')
    assert page.count("data:image/png") == 2 * (len(report.figures) + narrow)


def test_numbers_against_scipy(sweep: SweepFolder, text: str) -> None:
    values = {
        name: np.array(
            [
                evaluations.read(run.folder)["shift"]["metrics"]["shift/auroc"]
                for run in sweep.plan()
                if run.config["augmentation"]["name"] == name
            ]
        )
        for name in ("none", "cutmix")
    }
    shown = rows(section(text, "Shift"))
    assert list(shown)[:1] == ["Method"] and shown["Method"][:2] == ["AUROC ↑", "FPR95, % ↓"]
    half = stats.t.ppf(0.975, 4) * stats.sem(values["none"])
    assert shown["no mixing"][0] == f"{values['none'].mean():.3f} ± {half:.3f}"
    gaps = values["cutmix"] - values["none"]
    half = stats.t.ppf(0.975, 4) * stats.sem(gaps)
    low, high = gaps.mean() - half, gaps.mean() + half
    # Ahead of the baseline: in bold.
    assert shown["CutMix"][0].startswith(f"**{values['cutmix'].mean():.3f}")
    assert f"+{gaps.mean():.3f} \\[+{low:.3f}, +{high:.3f}\\]" in shown["CutMix"][0]


def test_one_family_per_metric(sweep: SweepFolder) -> None:
    tables = load(sweep)
    compared = compare(tables.cells, tables.runs)
    shown = catalogue.shown_metrics(
        "calibration", [k for k in tables.metric_columns if k.startswith("calibration/")]
    )
    _, found = compare_measurement(compared, tables.runs, shown)
    tested = [one for one in found.values() if one.p is not None]
    assert len({key for _, key in found}) == 5 and len(tested) == 10
    # The differences of one metric are a family; another metric changes nothing in it.
    alone = compare_measurement(compared, tables.runs, shown[:1])[1]
    assert {entry: one.p for entry, one in alone.items()} == {
        entry: one.p for entry, one in found.items() if entry[1] == shown[0].metric.key
    }
    # What is there for context alone is not tested.
    assert not [key for _, key in found if key == "calibration/ece_by_chance"]


def test_directions_and_stars(text: str) -> None:
    part = section(text, "Calibration")
    shown = rows(part)
    assert shown["Method"][:3] == ["Conf − acc, points", "ECE, % ↓", "ECE by chance, %"]
    # More confident or less is neither better nor worse, however clear.
    assert shown["CutMix"][0].endswith("\\*") and "**" not in shown["CutMix"][0]
    assert "with a star where neither direction is better" in part
    assert "those of a metric hold together with a confidence of 95%" in part
    assert "with a star" not in section(text, "Shift")


def test_home_is_left_out_of_both_that_are_compared(sweep: SweepFolder, text: str) -> None:
    left = {"mixup": ("centre/mean", "blobs/mean"), "cutmix": ("blobs/mean",)}
    shown = rows(section(text, "Hidden parts"))
    column = shown["Method"].index("Area, home left out, % ↑")
    for name, pairs in left.items():
        means = {
            run.config["augmentation"]["name"]: []
            for run in sweep.plan()
            if run.config["augmentation"]["name"] in (name, "none")
        }
        for run in sweep.plan():
            if (method := run.config["augmentation"]["name"]) in means:
                metrics = evaluations.read(run.folder)["hiding"]["metrics"]
                means[method].append(np.mean([metrics[f"hiding/{one}/area"] for one in pairs]))
        gain = 100 * (np.mean(means[name]) - np.mean(means["none"]))
        # As each method measured it, and below that the difference of the same pairs.
        cell = shown[method_name(name)][column]
        assert cell.lstrip("*").startswith("45.0")
        assert f"{gain:+.1f}" in cell or f"{gain:+.2f}" in cell
    # All pairs of shape and fill, methods side by side.
    assert "#### Area by shape and fill" in text and "| Centre, image, % ↑ |" in text
    cells = home.homes_of(
        next(m for m in load_measured(sweep, load(sweep).runs) if m.name == "hiding"),
        load(sweep).runs,
    )
    assert sorted(map(len, (one.shapes for one in cells.values()))) == [0, 0, 1]


def test_runs_of_before_lack_what_is_new(tmp_path: Path, without_pictures: None) -> None:
    both = (
        run for epochs in (30, 60) for run in grid(METHODS[:2], [0, 1], training__epochs=epochs)
    )
    folder = write_sweep(tmp_path, "older", both)
    measured_sweeps.measure(folder, ("hiding",))
    run = folder.plan()[0]
    content = measured_sweeps.contents(run)["hiding"]
    del content["curves"]["home"]
    content["metrics"] = {"hiding/clean": 0.8, "hiding/area": 0.5}
    measured_sweeps.write(run, "hiding", **content)
    report = write_report(folder)
    part = section(report.markdown.read_text(encoding="utf-8"), "Hidden parts")
    assert "Not measured in 1 run that an earlier mixbench measured" in part
    assert "Area, home left out has no value in 1 measured run." in part
    # Of several regimes not a panel for each pair of shape and fill.
    fills = len({fill for by in content["curves"]["accuracy"].values() for fill in by})
    caption = f"A column per shape of what is hidden; the mean of {fills} fills; at"
    assert caption in report.html.read_text(encoding="utf-8")


def test_what_is_missing_is_said(text: str) -> None:
    part = section(text, "Novel")
    assert "Measured for 4 of 15 finished runs; mixbench evaluate study --only novel" in part
    assert "It failed in 1 run: UserError: no such luck" in part and "more" not in part
    assert "Left out for 1 run: nothing to see." in part
    assert rows(part)["CutMix"][0] == "not measured"
    # Nothing is left to be measured there.
    part = section(text, "Localisation")
    assert "Measured for 14 of 15 finished runs. Left out for 1 run: no places." in part
    assert "Measured for" not in section(text, "Shift")
    assert "different settings" in section(text, "Attacks")
    assert "different settings" not in section(text, "Common corruptions")
    assert "In 1 of 15 runs the temperature is a bound" in section(text, "Calibration")
    assert "Guessing is right in 10%" in section(text, "Attacks")
    assert "The far data set: digits, resized" in section(text, "Shift")


def test_what_was_seen_of_scenes_is_said(text: str) -> None:
    part = section(text, "Localisation")
    assert "In 5 of 14 runs the network takes images of its own size alone" in part
    assert "objects 1/2 as large" in part
    assert "Maps have 7 × 7 and 14 × 14 places" in part
    assert (
        "Own images: up to 12 with boxes; left out up to 3 that" in part and "and 1 whose" in part
    )
    assert "On 500 scenes." in part
    assert "Chance: pointing 25.0%, IoU 25.0% and energy 25.0%." in part
    assert "Chance on own images: pointing 31.0%." in part


def test_masked_gradients_and_patches_are_told(text: str) -> None:
    part = section(text, "Attacks")
    assert "the gradient is masked" in part and "squares beats pgd at ε = 8/255." in part
    assert rows(part)["Method"][-1].startswith("Squares 8/255, %")
    assert rows(section(text, "Patches"))["Method"][:2] == ["Clean, %", "Blank 0.1, % ↑"]


def test_an_unknown_measurement_has_all_its_metrics(text: str) -> None:
    shown = rows(section(text, "Novel"))
    # A metric that has no value anywhere is none; neither direction is known.
    assert shown["Method"] == ["thing"]
    assert shown["no mixing"][0].startswith("1.50 ± 6.35")
    assert shown["MixUp"][0].startswith("2.12") and "+0.62" in shown["MixUp"][0]
    wide = rows(section(text, "Wide"))
    assert wide["Metric"] == ["no mixing", "MixUp"] and set(wide) >= {str(n) for n in range(12)}


def test_runs_of_later_are_left_out_of_the_statistics(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, "part", grid(METHODS[:2], range(3)))
    measured_sweeps.measure(folder, ("overfitting",))
    unmeasured = folder.plan()[4]
    (unmeasured.folder.path / "evaluations" / "overfitting.json").unlink()
    tables = load(folder)
    compared = compare(tables.cells, tables.runs)
    shown = catalogue.shown_metrics("overfitting", ["overfitting/gap"])
    estimates, found = compare_measurement(compared, tables.runs, shown)
    base, other = tables.cells["cell_key"]
    assert estimates[base, "overfitting/gap"].n == 3
    assert found[other, "overfitting/gap"].n == 2
    assert found[other, "overfitting/gap"].replicates == (0, 2)


def curves_of(folder: SweepFolder, name: str) -> Curves:
    tables = load(folder)
    (one,) = [m for m in load_measured(folder, tables.runs) if m.name == name]
    compared = compare(tables.cells, tables.runs)
    return Curves(name, one.results, tables.runs, compared.cells, 10)


def test_the_command_repeats_the_settings(tmp_path: Path, without_pictures: None) -> None:
    folder = write_sweep(tmp_path, "again", grid(METHODS[:2], range(1)))
    measured_sweeps.measure(folder, ("attack", "shift"))
    for number, run in enumerate(folder.plan()):
        # The last one made counts.
        content = {
            **measured_sweeps.contents(run)["attack"],
            "changed": {"steps": 20, "epsilons": [0.01, (1 + number) / 50]},
            "provenance": {"finished": 1_790_000_100.0 + number},
        }
        measured_sweeps.write(run, "attack", **content)
    text = html.unescape(write_report(folder).html.read_text(encoding="utf-8"))
    options = "--set attack.steps=20 --set 'attack.epsilons=[0.01, 0.04]'"
    assert f"mixbench evaluate again --only attack,shift {options}" in text


def test_reliability_leaves_out_runs_with_other_bins(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, "bins", grid(METHODS[:2], range(3)))
    measured_sweeps.measure(folder, ("calibration",))
    run = folder.plan()[0]
    content = measured_sweeps.contents(run)["calibration"]
    content["curves"]["bins"] = 14
    measured_sweeps.write(run, "calibration", **content)
    bins = reliability_bins(curves_of(folder, "calibration"), "before")
    assert bins.groupby("cell_key")["bin"].count().tolist() == [30, 45]
    assert bins["high"].max() == 1.0
    assert np.isnan(bins.loc[bins["count"] == 0, "accuracy"]).all()


def test_many_cells_have_several_calibration_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "PANELS", 2)
    monkeypatch.setattr(figures, "MOST_PANELS", 3)
    methods = [{"name": "cutmix", "alpha": n / 10} for n in range(1, 6)]
    folder = write_sweep(tmp_path, "many", grid(methods, range(1)))
    measured_sweeps.measure(folder, ("calibration",))
    curves = curves_of(folder, "calibration")
    drawn = figures.figures_of(curves)
    assert [one.name for one in drawn] == ["measured-calibration.png", "measured-calibration-2.png"]


@pytest.mark.parametrize("name", DRAWN)
def test_files_without_curves_cost_only_the_figure(name: str, tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, "bare", grid(METHODS[:2], range(1)))
    for run in folder.plan():
        measured_sweeps.write(run, name, metrics={f"{name}/clean": 0.5})
    assert figures.figures_of(curves_of(folder, name)) == []
    data = collect(folder, None)
    table = part_of(data.measured[0], data).table
    assert [row.cells[0].text[:2] for row in table.rows] == [
        "50" if table.columns[0].endswith("%") else "0."
    ] * 2


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ([1.185], 2),
        ([12.3, 0.1], 1),
        ([0.394], 3),
        ([0.0394], 4),
        ([250.0], 0),
        ([25000.0], 0),
        ([], 3),
        ([0.0], 3),
        ([1e-9], 6),
        ([None, -2.0], 2),
    ],
)
def test_decimals_follow_the_largest(values: list[float | None], decimals: int) -> None:
    assert significant_decimals(values) == decimals
