"""Figures: readable PNGs, one look per method, labels that don't overlap."""

from __future__ import annotations

import io
import itertools
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from mixbench.analysis.figures import canvas, difference_curves
from mixbench.analysis.figures.forest import (
    ForestPanel,
    ForestRow,
    draw_panel,
    has_arrows,
    limits_of,
)
from mixbench.analysis.figures.mixed import mixed_figure
from mixbench.analysis.figures.occlusion import occlusion_figure, spread_labels
from mixbench.analysis.figures.palette import DARK, LIGHT, Paper, Style, styles
from mixbench.analysis.figures.reliability import calibration_note
from mixbench.analysis.figures.run import run_figures
from mixbench.analysis.report.multiples import are_needed, multiples
from mixbench.analysis.report.sections.occlusion import first_regimes, noise_caption
from mixbench.experiments.store.run_folder import RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support.written_sweeps import METHODS, config, mixed_strip, result

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}


def seen(colour: str, deficiency: str) -> np.ndarray:
    """The colour in CIELAB as someone with that deficiency sees it."""
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    linear = np.clip(DEFICIENCIES[deficiency] @ linear, 0, 1)
    xyz = (
        np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
        @ linear
        / [0.9505, 1, 1.089]
    )
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("paper", [LIGHT, DARK])
@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_colours_of_the_usual_methods_stayspread_labels(paper: Paper, deficiency: str) -> None:
    look = styles([method["name"] for method in METHODS], paper)
    for (_, one), (_, other) in itertools.combinations(look.items(), 2):
        distance = np.linalg.norm(seen(one.colour, deficiency) - seen(other.colour, deficiency))
        assert distance > 8, (one, other)


@pytest.mark.parametrize("paper", [LIGHT, DARK])
def test_no_two_series_look_alike_nor_share_a_marker_below_13(paper: Paper) -> None:
    names = [method["name"] for method in METHODS] + [f"method {n}" for n in range(40)]
    look = styles(names, paper)
    assert len(set(look.values())) == len(names)
    assert len({style.marker for style in styles(names[:13], paper).values()}) == 13


def test_a_method_keeps_its_look_between_sweeps() -> None:
    some = styles(["none", "cutmix", "fmix"], LIGHT)
    many = styles(["none", *(method["name"] for method in METHODS[1:]), "new"], LIGHT)
    assert all(many[name] == style for name, style in some.items())


def test_a_variant_takes_its_methods_colour_while_it_is_free() -> None:
    look = styles(["none", "cutmix α=0.2", "cutmix α=1"], LIGHT)
    assert look["cutmix α=0.2"] == styles(["cutmix"], LIGHT)["cutmix"]
    assert look["cutmix α=1"] != look["cutmix α=0.2"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.02, 0.2)), min_size=1, max_size=15))
def test_labels_never_overlap_nor_leave_the_axis(labels: list[tuple[float, float]]) -> None:
    labels = sorted(labels)
    sizes = [size for _, size in labels]
    centres = spread_labels([place for place, _ in labels], sizes)
    squeeze = max(1.0, sum(sizes))
    for (low, high), (small, large) in zip(
        itertools.pairwise(centres), itertools.pairwise(sizes), strict=True
    ):
        assert high - low >= (small + large) / 2 / squeeze - 1e-9
    assert centres[0] >= sizes[0] / 2 / squeeze - 1e-9
    assert centres[-1] <= 1 - sizes[-1] / 2 / squeeze + 1e-9


def test_labels_that_fit_stay_where_they_are() -> None:
    assert spread_labels([0.2, 0.5, 0.9], [0.1, 0.1, 0.1]) == pytest.approx([0.2, 0.5, 0.9])


@pytest.fixture(scope="module")
def drawn(full_sweep: SweepFolder) -> dict[str, bytes]:
    return run_figures(full_sweep.plan()[0].folder)


def test_a_run_has_its_own_figures(drawn: dict[str, bytes], tmp_path: Path) -> None:
    assert sorted(drawn) == ["occlusion.png", "reliability.png"]
    for png in drawn.values():
        with Image.open(io.BytesIO(png)) as image:
            assert image.format == "PNG"
            assert min(image.size) > 300
            assert image.convert("L").getextrema()[0] < 100
    assert run_figures(RunFolder(tmp_path)) == {}


def test_the_strip_shows_the_images_that_the_runs_drew(tmp_path: Path) -> None:
    strips = []
    for method in METHODS[:3]:
        path = tmp_path / f"{method['name']}.png"
        mixed_strip(path, method)
        strips.append(("", method["name"], path))
    with Image.open(io.BytesIO(mixed_figure(strips))) as image:
        drawn = np.asarray(image.convert("L"), dtype=float)
    # The rows differ as the strips do: mixup's row is not that of none.
    rows = np.array_split(drawn, 3)
    height = min(map(len, rows))
    assert np.abs(rows[0][:height] - rows[1][:height]).mean() > 5
    with Image.open(io.BytesIO(mixed_figure(strips, DARK))) as image:
        assert image.convert("RGB").getpixel((1, 1)) == (0x17, 0x1B, 0x20)


def test_notes_of_reliability_diagrams() -> None:
    assert calibration_note(0.0481, -0.012) == "ECE 4.8%, conf − acc −1.2"
    assert calibration_note(None, float("nan")) == ""


def test_drawing_a_run_without_thin_bins_warns_of_nothing(tmp_path: Path) -> None:
    found, _ = result(config(METHODS[1], 0))
    curve = found["curves"]["reliability"]
    curve["count"] = [0] * 10 + [200] * 5
    curve["accuracy"] = [None] * 10 + [0.7] * 5
    curve["confidence"] = [None] * 10 + [0.7, 0.75, 0.83, 0.9, 0.97]
    folder = tmp_path / found["run_key"]
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(found))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "reliability.png" in run_figures(RunFolder(folder))


def test_figures_are_the_same_again_and_leave_settings_of_pyplot_alone(
    full_sweep: SweepFolder, drawn: dict[str, bytes]
) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    assert run_figures(full_sweep.plan()[0].folder) == drawn
    assert pd.Series(dict(matplotlib.rcParams)).equals(pd.Series(before))


def test_occlusion_has_a_row_per_fill_and_says_what_lacks_it() -> None:
    cells = pd.DataFrame({"cell_key": ["a"], "block": [0], "title": [""], "series": ["none"]})
    cells = cells.assign(baseline_key=None, label="none", method="none")
    points = [
        ("a", part, fraction, 0.8, 0.7, 0.9, 5)
        for part in ("centre", "patches", "centre/noise", "patches/noise")
        for fraction in (0.0, 0.5)
    ]
    columns = ["cell_key", "shape", "fraction", "mean", "low", "high", "n"]
    curves = pd.DataFrame(points, columns=columns)
    sizes = [
        Image.open(io.BytesIO(occlusion_figure(cells, part))).size for part in (curves[:4], curves)
    ]
    assert sizes[0][0] == sizes[1][0] and sizes[1][1] == pytest.approx(2 * sizes[0][1], abs=2)
    # A regime has a row per fill: of four regimes, all with one fill, the first with two.
    many = pd.DataFrame({"block": range(4)})
    assert len(first_regimes(many, 1)[0]) == 4
    few, left_out = first_regimes(many, 2)
    assert len(few) == 1 and "The first of 4 regimes" in left_out
    new, old = (
        pd.DataFrame({"run_key": name, "shape": shapes})
        for name, shapes in (("new", ["centre", "centre/noise"]), ("old", ["centre", "patches"]))
    )
    assert "filled with noise, which" in noise_caption(new)
    assert "(not measured in 1 run of an older" in noise_caption(pd.concat([new, old]))
    assert "it was not measured" in noise_caption(old)


def test_what_leaves_the_frame_of_a_forest_ends_in_an_arrow() -> None:
    rows = [
        ForestRow("three replicates", 0.8, -40.0, 41.6, "", (0.2, 0.9, 1.3)),
        ForestRow("clear", 1.2, 0.9, 1.5, "good", (1.1, 1.2, 30.0)),
    ]
    panel, limits = ForestPanel("", rows), limits_of(rows, 0.5)
    axis = Figure().subplots()
    draw_panel(axis, panel, LIGHT, 0.5, limits)
    arrows = [line for line in axis.lines if line.get_marker() in ("<", ">")]
    # Both ends of the first interval, and a dot of the second row; all are within the frame.
    assert sorted(line.get_marker() for line in arrows) == ["<", ">", ">"]
    assert {line.get_ydata()[0] for line in arrows} == {0.0, 1.22}
    assert all(limits[0] < line.get_xdata()[0] < limits[1] for line in arrows)
    assert has_arrows([panel], 0.5) and not has_arrows([ForestPanel("", [rows[0]][:0])], 0.5)


def test_more_than_eight_curves_become_a_panel_each_of_paired_differences() -> None:
    names = ["none", *(f"method {n}" for n in range(8))]
    cells = pd.DataFrame(
        {
            "cell_key": names,
            "series": names,
            "title": "",
            "block": 0,
            "baseline_key": [None, *["none"] * 8],
        }
    )
    assert are_needed(cells) and not are_needed(cells.iloc[:8])
    # Accuracy of replicates 0, 1, 2 with half hidden; method 1 lacks the last.
    values = {"none": (0.5, 0.6, 0.7), "method 0": (0.54, 0.66, 0.78), "method 1": (0.5, 0.7)}
    points, runs = [], []
    for name, of_name in values.items():
        for replicate, value in enumerate(of_name):
            run = f"{name} {replicate}"
            runs.append({"run_key": run, "replicate": replicate})
            place = {"cell_key": name, "run_key": run, "line": "centre", "row": "", "point": 1}
            points.append({**place, "x": 50.0, "value": value})
    found = multiples(cells, pd.DataFrame(points), pd.DataFrame(runs), "Hidden, %")
    assert found is not None and "paired by replicate" in found.words
    one, other = (panel.curves[0] for panel in found.panels)
    assert [panel.title for panel in found.panels] == ["method 0", "method 1"]
    # 4, 6 and 8 points: 6 ± t(0.975, 2) * 2 / sqrt(3).
    assert (one.x, one.difference) == ((50.0,), (pytest.approx(6.0),))
    assert one.low[0] == pytest.approx(6 - 4.302653 * 2 / 3**0.5, rel=1e-6)
    # Of the two that both have, 0 and 10 points; too few for a band.
    assert other.difference[0] == pytest.approx(5.0) and other.low == (None,)
    assert found.draw(LIGHT) and found.draw_narrow(DARK)


@pytest.mark.parametrize("length", [4, 30, 60])
def test_a_legend_is_as_wide_as_its_figure_at_most(length: int) -> None:
    names = {
        f"{number:02d} " + "name " * (length // 5): Style("black", "o") for number in range(19)
    }
    with canvas.settings(LIGHT):
        figure = Figure(figsize=(canvas.WIDTH, 4), layout="constrained")
        figure.subplots()
        canvas.legend(figure, names, LIGHT)
        canvas.png(figure)
        (legend,) = figure.legends
        box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    assert len(legend.get_texts()) == 19


@pytest.mark.parametrize(("is_log", "text"), [(False, "25"), (True, "25.2041")])
def test_shares_of_pixels_get_short_ticks_and_lengths_their_own(is_log: bool, text: str) -> None:
    xs = (9.5663, 25.2041, 74.4898)
    gaps: tuple[float, ...] = (0.0, 1.0, 2.0)
    panel = difference_curves.CurvePanel(
        "CutMix", [difference_curves.DifferenceCurve("", xs, gaps, (None,) * 3, (None,) * 3)]
    )
    axis = Figure().subplots()
    difference_curves._x_axis(axis, [panel], is_log=is_log)
    assert list(axis.get_xticks()) == list(xs)
    assert axis.get_xticklabels()[1].get_text() == text


def test_tuned_and_untuned_are_told_apart() -> None:
    names = ["no mixing", "tuned MixUp", "untuned MixUp", "tuned CutMix", "untuned CutMix"]
    found = styles(names, LIGHT, ["no mixing"])
    assert len({style.colour for style in found.values()}) == 5
    assert found["tuned CutMix"] == styles(["cutmix"], LIGHT)["cutmix"]
