"""The report: what it says, that it stands alone, and that nothing in it can do harm."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mixbench.analysis.report.build import Report, write_report
from mixbench.analysis.report.data import collect
from mixbench.analysis.report.page import markdown
from mixbench.analysis.report.sections import runs as run_rows
from mixbench.analysis.statistics.comparison import compare
from mixbench.analysis.statistics.recommendation import recommend
from mixbench.analysis.tables.load import load
from mixbench.analysis.text.caveats import caveats
from mixbench.analysis.text.verdict import Summary, summarise
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support.written_sweeps import METHODS, config, grid, keys, result, write_sweep

NONE, MIXUP, CUTMIX, CUTOUT = METHODS[:4]
ALL = (
    *("forest.png", "pairs.png", "confusion.png", "confusion-differences.png"),
    *("occlusion.png", "reliability.png", "mixed.png"),
)


class Page(HTMLParser):
    """Collects what a page would load, its tags, and its text in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.words: list[str] = []
        self.headings: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for key, value in attrs:
            if key in ("src", "srcset", "href", "data", "action", "poster"):
                self.loads.append(value or "")
            if key.startswith("on"):
                self.handlers.append(key)

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in ("style", "script"):
            return
        self.words.append(data)
        if self.tags and self.tags[-1] in ("h1", "h2", "h3") and data.strip():
            self.headings.append(data.strip())


def page(report: Report) -> Page:
    return Page(report.html.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def report(full_sweep: SweepFolder) -> Report:
    return write_report(full_sweep)


def test_all_files_are_there_and_nothing_else(report: Report, full_sweep: SweepFolder) -> None:
    folder = full_sweep.path / "report"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {name for name in found if not name.startswith("tables/")} == {
        *("report.html", "report.md", "runs.csv", "verdicts.json"),
        *(f"figures/{name}" for name in ALL),
    }
    assert set(report.paths) == {folder / name for name in found}


def test_the_page_stands_alone(report: Report) -> None:
    text = report.html.read_text(encoding="utf-8")
    found = page(report)
    assert found.loads
    pictures = [load for load in found.loads if load.startswith("data:image/png;base64,")]
    links = [load for load in found.loads if load not in pictures]
    # Links lead to parts of the page, and to the folders of runs beside it.
    ids = set(re.findall(r' id="([^"]+)"', text))
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    assert all((report.folder / link).is_dir() for link in links if not link.startswith("#"))
    assert len(links) > 35
    assert found.tags.count("script") == 1
    assert not {"link", "iframe", "object", "embed"} & set(found.tags)
    assert not found.handlers
    styles = re.findall(r"<style>(.*?)</style>", text, re.S)
    assert styles
    assert "url(" not in styles[0]
    assert "@import" not in styles[0]
    assert "prefers-color-scheme: dark" in styles[0]
    # Every picture in a light and a dark version, the forest plot in a narrow one too.
    assert len(pictures) == len(set(pictures)) == 2 * len(ALL) + 2


def test_the_order_of_the_page(report: Report) -> None:
    headings = page(report).headings
    wanted = [
        report.verdict.headline.partition(". ")[0] + ".",
        "Everything else",
        "In words",
        "All results",
        "Occlusion",
        "Reliability",
        "What each method does",
        "Set-up",
        "Runs",
        "Provenance and commands",
        "Reproduce",
    ]
    assert [heading for heading in dict.fromkeys(headings) if heading in wanted] == wanted


def test_the_table_has_the_numbers_of_the_runs(report: Report, full_sweep: SweepFolder) -> None:
    runs = pd.read_csv(report.csv)
    cutmix = runs[runs["label"] == "cutmix"]["test/accuracy"]
    text = page(report).text
    assert f"{100 * cutmix.mean():.1f} ±" in text
    gains = cutmix.to_numpy() - runs[runs["label"] == "none"]["test/accuracy"].to_numpy()
    assert f"{100 * gains.mean():+.1f} [" in text
    assert "Verdict" in text
    for run in full_sweep.plan():
        assert run.run_key in text


def test_the_csv_has_a_row_per_run_and_all_columns(report: Report) -> None:
    runs = pd.read_csv(report.csv)
    assert len(runs) == 35
    for column in (
        "run_key",
        "seed",
        "state",
        "augmentation.name",
        "training.learning_rate",
        "test/brier",
        "occlusion/patches/0.5",
        "provenance.device",
        "timing.train_seconds",
    ):
        assert column in runs


def test_markdown_links_files_that_exist(report: Report) -> None:
    text = report.markdown.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert {f"figures/{name}" for name in ALL} <= set(links)
    assert all((report.folder / link).is_file() for link in links)
    tables = re.findall(r"(?:^\|.*\|$\n?)+", text, re.M)
    assert len(tables) == 7
    for table in tables:
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(bars) == 1


def test_the_verdict_names_the_winner_with_interval_seeds_and_reach(report: Report) -> None:
    assert report.verdict.headline.startswith(
        "Use CutMix or RICAP: better by 2.3 to 2.8 points over no mixing, and they can't be told"
    )
    assert "Can't be told apart from the best: CutMix and RICAP." in report.verdict.paragraph
    assert "hold together at 95%" in report.verdict.paragraph
    assert "5 seeds" in report.verdict.paragraph
    assert "fashion_mnist" in report.verdict.reach
    assert "small_cnn" in report.verdict.reach
    assert not report.warnings
    # How all trained, what to do next, and what to paste, are on the first screen.
    first = report.markdown.read_text(encoding="utf-8").partition("## Results")[0]
    assert "SGD at a rate of 0.1, batches of 128" in first and "test" in first
    assert "**Next:** Paste the lines for CutMix or RICAP into your training" in first
    assert "The lines to paste for CutMix:" in first and "mixbench.create('cutmix'" in first


def judged(sweep: SweepFolder) -> Summary:
    """The verdict alone, without the drawing."""
    tables = load(sweep)
    compared = compare(tables.cells, tables.runs)
    return summarise(compared, "this set", recommend(compared, tables.runs))


def warned(sweep: SweepFolder) -> list[str]:
    """The warnings alone."""
    tables = load(sweep)
    return caveats(compare(tables.cells, tables.runs), tables.runs, sweep.spec)


def with_accuracies(path: Path, values: Mapping[str, list[float]]) -> Summary:
    """The verdict on a sweep in which the methods have exactly these accuracies."""
    methods = [method for method in METHODS if method["name"] in values]
    runs = grid(methods, range(len(next(iter(values.values())))))
    sweep = write_sweep(path, "made", runs)
    for run in runs:
        file = sweep.path / "runs" / keys(run)[0] / "result.json"
        found = json.loads(file.read_text())
        name = run["augmentation"]["name"]
        found["metrics"]["test/accuracy"] = values[name][run["seed"]]
        file.write_text(json.dumps(found))
    return judged(sweep)


BASE = [0.80, 0.81, 0.79, 0.80, 0.82]


def test_an_interval_with_zero_shows_no_difference(tmp_path: Path) -> None:
    noisy = [b + d for b, d in zip(BASE, (0.02, -0.02, 0.01, -0.01, 0.003), strict=True)]
    said = with_accuracies(tmp_path, {"none": BASE, "cutmix": noisy})
    assert said.headline.startswith(
        "Nothing is shown to be better than no mixing here. Undecided: CutMix ("
    )
    assert "Undecided: cutmix" in said.paragraph
    assert "would have been seen" in said.paragraph
    assert "more seeds for 0.5)" in said.paragraph


def test_a_worse_method_is_behind(tmp_path: Path) -> None:
    worse = [b - d for b, d in zip(BASE, (0.020, 0.021, 0.019, 0.022, 0.018), strict=True)]
    said = with_accuracies(tmp_path, {"none": BASE, "cutmix": worse})
    assert said.headline == "Stay with no mixing: nothing is better here. Avoid CutMix."
    assert "Worse: cutmix −2.0 [−2.2, −1.8]" in said.paragraph


def test_what_more_comparisons_take_back_is_undecided(tmp_path: Path) -> None:
    # p = 0.034 for cutmix alone; beside noisy methods it does not hold.
    gain = [b + d for b, d in zip(BASE, (0.02, 0.005, 0.01, 0.02, 0.002), strict=True)]
    noisy = [b + d for b, d in zip(BASE, (0.02, -0.02, 0.01, -0.01, 0.003), strict=True)]
    alone = with_accuracies(tmp_path / "a", {"none": BASE, "cutmix": gain})
    assert alone.headline == "Use CutMix: better by 1.1 points over no mixing."
    two = with_accuracies(tmp_path / "b", {"none": BASE, "cutmix": gain, "mixup": noisy})
    assert two.headline.startswith("Nothing is shown to be better than no mixing here.")
    assert "Undecided: cutmix" in two.paragraph


def test_one_seed_shows_nothing(tmp_path: Path, without_pictures: None) -> None:
    found = write_report(write_sweep(tmp_path, "one", grid(METHODS[:3], [0])))
    assert found.verdict.headline.startswith("Nothing can be judged yet: that takes two seeds")
    assert "one seed gives no interval" in found.verdict.paragraph
    assert any("One seed per cell" in warning for warning in found.warnings)
    assert "±" not in re.sub(r"Mean ± half-width.*?\.", "", page(found).text)
    for text in (page(found).text, found.markdown.read_text(encoding="utf-8")):
        assert "fewer than two pairs have no interval" in text
        assert "hold together" not in text


def test_few_seeds_are_warned_of_and_five_are_not(tmp_path: Path) -> None:
    few = warned(write_sweep(tmp_path, "few", grid([NONE, CUTMIX], range(4))))
    assert any("Only 4 seeds" in warning for warning in few)
    assert not warned(write_sweep(tmp_path, "enough", grid([NONE, CUTMIX], range(5))))


def test_skipped_images_are_on_the_first_screen(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, "skips", grid([NONE, CUTMIX], range(2)))
    files = [f"/data/leaves/oak/{number}.png" for number in range(5)]
    for planned, mine in zip(sweep.plan(), (files[:1], files, [], files[:4]), strict=True):
        path = planned.folder.path / "result.json"
        result = json.loads(path.read_text())
        result["dataset"] |= {"source": "/data/leaves", "skipped": mine}
        if mine:
            result["dataset"]["skipped_because"] = ["not an image"] * len(mine)
        path.write_text(json.dumps(result))
    report = write_report(sweep)
    above = report.markdown.read_text().split("## Results")[0]
    assert "5 image files skipped\n" in above
    assert "5 image files skipped: oak/0.png (not an image); oak/1.png (not an image); " in above
    assert files[4] in report.csv.read_text()


EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)> | `tick` [a](http://b) **c**'


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """fmix failed everywhere, mixup once, ricap is not begun, none lacks a seed."""
    runs = grid()
    failed = {
        keys(run)[0]: f"ValueError: {EVIL}\nsecond line"
        for run in runs
        if run["augmentation"]["name"] == "fmix"
        or (run["augmentation"]["name"] == "mixup" and run["seed"] == 2)
    }
    spec = {
        "name": EVIL,
        "description": EVIL,
        "fixed": {"dataset": {"name": "fashion_mnist"}},
        "overrides": {"training.epochs": 3, "augmentation.name": "it's"},
    }
    sweep = write_sweep(
        tmp_path_factory.mktemp("partial"),
        "<b>part",
        runs,
        description=EVIL,
        spec=spec,
        failed=failed,
        waiting=lambda run: (
            run["augmentation"]["name"] == "ricap"
            or (run["augmentation"]["name"] == "none" and run["seed"] == 4)
        ),
    )
    return write_report(sweep)


def test_nothing_that_is_quoted_becomes_markup(partial: Report) -> None:
    found = page(partial)
    assert found.tags.count("script") == 1
    assert all(load.startswith(("data:image/png", "#", "../runs/")) for load in found.loads)
    assert not found.handlers
    assert "b" not in found.tags
    # It is shown, though, as the text that it is.
    assert found.text.count('<script>alert("x")</script>') >= 4
    text = partial.markdown.read_text(encoding="utf-8")
    outside = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.M | re.S)
    assert "<" not in outside
    assert not re.search(r"(?<!\\)\]\(http", outside)
    assert r"\`tick\`" in outside


def test_missing_cells_are_explained(partial: Report) -> None:
    text = page(partial).text
    assert re.search(r"FMix no finished run: seeds 0–4 failed \(ValueError:", text)
    assert "RICAP no finished run: seeds 0–4 not begun" in text
    assert "second line" not in text
    warnings = " ".join(partial.warnings)
    assert "23 of 35 runs are done" in warnings
    assert "MixUp: 4 of 5 runs finished; seed 2 failed" in warnings
    assert "No run of the configuration “RICAP” has begun." in warnings
    assert (
        "Differences of CutMix, Cutout and Random Erasing: the baseline has no value for "
        "seed 4." in warnings
    )
    assert "no seed has a result on both sides: RICAP and FMix" in partial.verdict.paragraph
    assert "3 to 4 seeds" in partial.verdict.paragraph


def test_the_command_repeats_the_overrides(partial: Report) -> None:
    text = html.unescape(partial.html.read_text(encoding="utf-8"))
    assert "mixbench sweep '<b>part' --set training.epochs=3 --set " in text
    assert "mixbench report '<b>part'" in text


def test_nothing_finished_is_the_users_error_and_writes_nothing(tmp_path: Path) -> None:
    runs = grid([NONE, CUTMIX], range(2))
    sweep = write_sweep(
        tmp_path,
        "void",
        runs,
        failed={keys(runs[0])[0]: "OSError: disk full"},
        waiting=lambda run: run["seed"] == 1,
    )
    (sweep.path / "runs" / keys(runs[2])[0] / "result.json").unlink()
    with pytest.raises(UserError, match=r"none of its 4 runs.*disk full") as caught:
        write_report(sweep)
    assert "\n" not in str(caught.value)
    assert not (sweep.path / "report").exists()


def test_a_wrong_baseline_writes_nothing(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, "bad", grid([NONE, CUTMIX], range(2)))
    with pytest.raises(UserError, match="fits no cell"):
        write_report(sweep, baseline="nobody")
    assert not (sweep.path / "report").exists()


@pytest.mark.parametrize("seeds", [[3], [0, 1, 2]])
def test_a_single_cell(tmp_path: Path, seeds: list[int], without_pictures: None) -> None:
    found = write_report(write_sweep(tmp_path, "single", grid([CUTMIX], seeds)))
    assert re.match(
        r"CutMix reaches \d\d\.\d+% in test accuracy; there is noth", found.verdict.headline
    )
    assert "Difference" not in found.markdown.read_text().split("Set-up")[0]


def test_no_baseline(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, "nobase", grid([MIXUP, CUTMIX], range(5)))
    assert judged(sweep).headline == "Use CutMix: it is the best here. Avoid MixUp."
    assert any("No differences are tested" in warning for warning in warned(sweep))


def test_several_factors(tmp_path: Path, without_pictures: None) -> None:
    runs = [
        r for ls in (0.0, 0.1) for r in grid(METHODS[:3], range(3), training__label_smoothing=ls)
    ]
    found = write_report(write_sweep(tmp_path, "factors", runs))
    assert found.verdict.headline == "Use CutMix, in both regimes. Only 3 seeds."
    assert "With label_smoothing 0.1:" in found.verdict.paragraph
    assert "hold together, over 4 comparisons" in page(found).text
    verdicts = json.loads((found.folder / "verdicts.json").read_text())
    assert set(verdicts["best_set"]) == {"label_smoothing 0", "label_smoothing 0.1"}
    primary = [one for one in verdicts["contrasts"] if one["primary"]]
    assert [one["label"] for one in primary] == ["mixup", "cutmix"] * 2
    assert {one["against"] for one in primary} == {"none"}


def test_the_digits_fallback_is_said(tmp_path: Path) -> None:
    spec = {
        "name": "demo",
        "fixed": {"dataset": {"name": "fashion_mnist"}},
        "overrides": {"dataset.name": "digits"},
    }
    runs = grid([NONE, CUTMIX], dataset__name="digits")
    warnings = warned(write_sweep(tmp_path, "demo", runs, spec=spec))
    assert any("digits, used in place of fashion_mnist" in warning for warning in warnings)


def test_runs_on_different_devices_are_warned_of(tmp_path: Path) -> None:
    runs = grid([NONE, CUTMIX])
    sweep = write_sweep(tmp_path, "mix", runs)
    file = sweep.path / "runs" / keys(runs[0])[0] / "result.json"
    found = json.loads(file.read_text())
    found["provenance"]["device"] = "cuda: H100"
    found["provenance"]["commit"] = "0123456789" * 4 + "+changes"
    found["dataset"]["digest"] = "sha256:other"
    file.write_text(json.dumps(found))
    warnings = warned(sweep)
    assert any("mix devices" in warning for warning in warnings)
    (commits,) = (warning for warning in warnings if "mix commits" in warning)
    # Whole hashes are too long to be compared by eye.
    assert "0123456789+changes" in commits and "01234567890" not in commits
    assert any("different data" in warning for warning in warnings)


def test_undefined_metrics_and_missing_parts_of_a_result(
    tmp_path: Path, without_pictures: None
) -> None:
    runs = grid([NONE, CUTMIX], range(3))
    sweep = write_sweep(tmp_path, "lean", runs)
    for run in runs:
        folder = sweep.path / "runs" / keys(run)[0]
        found, _ = result(run)
        found["metrics"]["test/ece"] = None
        found["curves"] = {}
        del found["timing"]
        (folder / "result.json").write_text(json.dumps(found))
        (folder / "mixed.png").write_bytes(b"\x89PNG torn")
    written = write_report(sweep)
    confusions = {"confusion.png", "confusion-differences.png"}
    assert {path.name for path in written.figures} == {"forest.png", *confusions}
    assert any("ECE is undefined in 6 runs" in warning for warning in written.warnings)


def test_a_second_report_replaces_the_first(tmp_path: Path, without_pictures: None) -> None:
    sweep = write_sweep(tmp_path, "twice", grid([NONE, CUTMIX], range(2)))
    first = write_report(sweep)
    stale = first.folder / "figures" / "reliability-7.png"
    own = first.folder / "figures" / "mine.png"
    stale.write_bytes(b"old")
    own.write_bytes(b"mine")
    before = first.html.read_bytes()
    second = write_report(sweep)
    assert second.html.read_bytes() == before
    assert not stale.exists()
    assert own.exists()
    assert not list(second.folder.rglob(".*"))


def test_runs_lead_to_mlflow_where_it_is_known(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, "demo", [config(NONE, 0), config(MIXUP, 0)])
    first, second = (run.run_key for run in sweep.plan())

    def links(record: object, out: Path | None = tmp_path) -> tuple[list[str], dict[str, Any]]:
        (sweep.path / "mlflow.json").write_text(json.dumps(record))
        section = run_rows.section(collect(sweep, None, out))
        return [address for *_, address in section["rows"]], section

    server = {"uri": "https://10.0.0.7:5000/x/", "experiment": "demo", "experiment_id": "7"}
    found, section = links({**server, "runs": {first: "0a1b", second: "../../else"}})
    assert found == ["https://10.0.0.7:5000/x/#/experiments/7/runs/0a1b", ""]
    assert section["experiment"].startswith("https://10.0.0.7:5000/x/#/experiments/7/")
    # A page that is published says nothing of where its makers keep theirs.
    assert links(server, None)[0] == ["", ""] and not links(server, None)[1]["tracked"]
    usual = {**server, "uri": f"sqlite:///{tmp_path / 'mlflow.db'}", "runs": {first: "0a1b"}}
    found, section = links(usual)
    assert found == ["", ""] and section["dashboard"] == "mixbench dashboard demo"
    found, section = links({**usual, "uri": "sqlite:////else/mlflow.db"})
    assert section["dashboard"] == "mixbench dashboard demo --uri sqlite:////else/mlflow.db"
    for odd in ([], {}, {**server, "uri": "javascript:alert(1)", "runs": {first: "0a1b"}}):
        assert links(odd)[0] == ["", ""] and links(odd)[1]["experiment"] == ""
    assert links({**server, "experiment_id": 7, "runs": []})[1]["tracked"] is False


def test_another_folder(tmp_path: Path, without_pictures: None) -> None:
    sweep = write_sweep(tmp_path / "runs", "away", grid([NONE, CUTMIX], range(2)))
    found = write_report(sweep, tmp_path / "out" / "deep", baseline="cutmix")
    assert found.html == tmp_path / "out" / "deep" / "report.html"
    assert not (sweep.path / "report").exists()
    assert "mixbench report away --baseline augmentation.name=cutmix" in page(found).text
    assert found.verdict.headline.startswith("Stay with CutMix: nothing is better here.")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("<i>", "&lt;i&gt;"),
        ("random_erasing", "random_erasing"),
        ("_x_", r"\_x\_"),
        ("two\nlines", "two lines"),
        ("# no heading", r"\# no heading"),
    ],
)
def test_markdown_shows_any_text(text: str, shown: str) -> None:
    assert markdown(text) == shown


def test_metrics_with_the_same_name_in_any_order_give_the_same_table(
    tmp_path: Path, without_pictures: None
) -> None:
    def texts(methods: tuple[dict[str, Any], ...], name: str) -> set[str]:
        found = write_report(write_sweep(tmp_path, name, grid(methods, range(3))))
        table = found.markdown.read_text().split("## Results")[1].split("Test set")[0]
        return {line for line in table.splitlines() if line.startswith("| cut")}

    assert texts((NONE, CUTMIX, CUTOUT), "a") == texts((CUTOUT, NONE, CUTMIX), "b")


def test_a_turned_calibration_is_said(tmp_path: Path) -> None:
    runs = grid(METHODS[:3], range(5))
    sweep = write_sweep(tmp_path, "turned", runs)
    gaps = {"none": 0.06, "mixup": -0.05, "cutmix": 0.02}
    for run in runs:
        file = sweep.path / "runs" / keys(run)[0] / "result.json"
        found = json.loads(file.read_text())
        found["metrics"]["test/gap"] = gaps[run["augmentation"]["name"]] + run["seed"] / 1000
        file.write_text(json.dumps(found))
    assert "The baseline is over-confident; mixup is under-confident." in judged(sweep).beyond


def test_nothing_is_claimed_where_no_pair_exists(tmp_path: Path, without_pictures: None) -> None:
    folder = write_sweep(tmp_path, "unpaired", grid(METHODS[:3], range(3)))
    for planned in folder.plan():
        if planned.config["augmentation"]["name"] == "none":
            for file in sorted(planned.folder.path.rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()
            planned.folder.path.rmdir()
    found = write_report(folder)
    assert "no difference" not in found.verdict.headline.lower()
    assert found.verdict.beyond == ()
    assert any("No run of the configuration “no mixing” has begun." in w for w in found.warnings)


def test_few_seeds_stand_in_the_headline(tmp_path: Path) -> None:
    gain = [b + d for b, d in zip(BASE[:3], (0.021, 0.020, 0.0205), strict=True)]
    found = with_accuracies(tmp_path, {"none": BASE[:3], "cutmix": gain})
    assert found.headline.endswith("Only 3 seeds.")


def test_runs_of_one_cell_with_other_code_of_a_plug_in_are_told(
    tmp_path: Path, without_pictures: None
) -> None:
    methods = [NONE, *({**MIXUP, "name": name} for name in ("strip", "wave", "old"))]
    sweep = write_sweep(tmp_path, "plugins", grid(methods, range(3)))
    # By seed: the version and the digest, which results of before don't have.
    codes = {
        "strip": (("1.0", "a" * 16), ("1.0", "b" * 16), ("1.1", None)),
        "wave": (("1.0", "a" * 16), ("1.0", "a" * 16), ("1.0", None)),
        "old": (("1.0", None), ("1.0", None), ("1.1", None)),
        "none": (("1.0", None), ("1.0", None), ("1.1", None)),
    }
    for run in sweep.plan():
        name, seed = run.config["augmentation"]["name"], run.config["seed"]
        path = run.folder.path / "result.json"
        made = json.loads(path.read_text())
        version, digest = codes[name][seed]
        made["provenance"]["plugins"] = {"lab": version, "unused": "2"}
        if digest:
            made["provenance"]["plugin_digests"] = {"lab": digest}
        if (name, seed) == ("wave", 1):
            made["provenance"]["earlier_plugin_digests"] = {"lab": ["c" * 16]}
        path.write_text(json.dumps(made))
    found = write_report(sweep)
    advice = (
        "Their mean is of different methods: do all of them with the same code, in a sweep with "
        "another --name."
    )
    # mixbench's own methods are nobody's.
    assert [text for text in found.warnings if "plug-in" in text] == [
        "strip: the code of the plug-in lab changed between the runs: 1 run with 1.0 (code "
        "aaaaaaaa), 1 run with 1.0 (code bbbbbbbb) and 1 run with 1.1 (code not recorded). "
        f"{advice}",
        "old: the code of the plug-in lab changed between the runs: 2 runs with 1.0 (code not "
        f"recorded) and 1 run with 1.1 (code not recorded). {advice}",
        "wave, seed 1: the run was begun with other code of the plug-in lab (cccccccc) and went on "
        "with 1.0 (code aaaaaaaa).",
    ]
    text = found.markdown.read_text()
    assert "**Plug-ins**: lab 1.0 (code aaaaaaaa); lab 1.0 (code bbbbbbbb); lab 1.1" in text
