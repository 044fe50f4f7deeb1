"""The tables beside a report: the report's numbers, and text that LaTeX shows as it is."""

from __future__ import annotations

import io
import re

import pandas as pd
import pytest

from mixbench.analysis.report import paper_tables
from mixbench.analysis.report.data import ReportData, collect
from mixbench.analysis.report.paper_tables import PaperTable, as_markdown, latex
from mixbench.experiments.store.sweep_folder import SweepFolder

HOSTILE = r"100% & $x_1$ #{a}~b^c \input{/etc/passwd} <b>α → β</b> [1]"


@pytest.fixture(scope="module")
def data(full_sweep: SweepFolder) -> ReportData:
    return collect(full_sweep, None)


def test_every_form_has_the_numbers_of_the_comparison(data: ReportData) -> None:
    files = paper_tables.table_files(data)
    assert {f"tables/results.{kind}" for kind in ("tex", "md", "csv", "parquet")} <= files.keys()
    content = files["tables/results.parquet"]
    assert isinstance(content, bytes)
    rows = pd.read_parquet(io.BytesIO(content)).set_index("cell_key")
    for (cell, metric), estimate in data.comparison.estimates.items():
        assert rows.loc[cell, metric] == estimate.mean
    for cell, contrast in data.comparison.of_metric("test/accuracy").items():
        assert rows.loc[cell, "difference"] == contrast.difference
        assert rows.loc[cell, "verdict"] == contrast.verdict
    read = pd.read_csv(io.StringIO(str(files["tables/results.csv"]))).set_index("cell_key")
    pd.testing.assert_frame_equal(read, rows, check_dtype=False)
    runs = files["tables/runs.parquet"]
    assert isinstance(runs, bytes) and len(pd.read_parquet(io.BytesIO(runs))) == 35
    text = str(files["tables/results.tex"])
    assert r"\caption{" in text and r"\toprule" in text and r"random\_erasing" in text
    bold = re.findall(r"^(\w+) & \d+ & \\textbf", text, re.MULTILINE)
    (best,) = data.comparison.best.values()
    assert bold == [method for method in ("mixup", "cutmix", "ricap", "fmix") if method in bold]
    assert len(bold) == len(best)


def test_hostile_text_is_shown_as_it_is() -> None:
    frame = pd.DataFrame({"Method": [HOSTILE, "b"], "n": ["1", "2"]})
    table = PaperTable("results", HOSTILE, frame, frame, frozenset({(0, "Method")}))
    text = latex(table)
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [1, 1, 1]
    shown = (
        r"100\% \& \$x\_1\$ \#\{a\}\textasciitilde{}b\textasciicircum{}c "
        r"\textbackslash{}input\{/etc/passwd\} $<$b$>$$\alpha$ $\to$ $\beta$$<$/b$>$ {[}1]"
    )
    assert f"\\textbf{{{shown}}}" in text and f"\\caption{{{shown}}}" in text
    assert text.count("{") == text.count("}")
    assert "<b>" not in as_markdown(table)
    long = PaperTable("long", "", pd.concat([frame] * 30, ignore_index=True), frame)
    assert r"\begin{longtable}{lr}" in latex(long)
