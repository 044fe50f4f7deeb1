"""The report of a sweep with a question."""

from __future__ import annotations

import json
from pathlib import Path

from mixbench.analysis.report.build import write_report
from tests.analysis.statistics.test_declared import EARLY_LATE, staged_runs
from tests.support.written_sweeps import write_sweep


def test_the_report_answers_the_question(tmp_path: Path, without_pictures: None) -> None:
    spec = {"question": {"contrasts": EARLY_LATE}}
    folder = write_sweep(tmp_path, "staged", staged_runs(), spec=spec)
    report = write_report(folder)
    assert "early" in report.verdict.headline and "late" in report.verdict.headline
    page = report.markdown.read_text()
    assert "## The question" in page and "Differences in accuracy: exploratory" in page
    assert 'id="question"' in report.html.read_text()
    # A question that can't be read is no reason to lose the report.
    header = json.loads((folder.path / "sweep.json").read_text())
    header["spec"]["question"] = {"margin": 0.5}
    (folder.path / "sweep.json").write_text(json.dumps(header))
    report = write_report(folder)
    assert any("can't be read" in warning for warning in report.warnings)
    assert "## The question" not in report.markdown.read_text()
