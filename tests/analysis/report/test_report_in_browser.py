"""The report as a reader sees it: opened in headless Chromium, at desk and phone width."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mixbench.analysis.report.build import write_report
from mixbench.experiments.store.sweep_folder import SweepFolder

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

WATCH = """
<script>
window.errors = [];
window.addEventListener("error", (event) => window.errors.push(event.message));
console.error = (...parts) => window.errors.push(parts.join(" "));
</script>
"""
PROBE = """
<pre id="probe"></pre>
<script>
window.addEventListener("load", () => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  setTimeout(look, 1000);
});
const look = () => {
  const table = document.querySelector("table.advice");
  const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
  const before = names();
  const sorted = [2, 2, 0].map((column) => {
    table.tHead.rows[0].cells[column].querySelector("button").click();
    return names();
  });
  const runs = document.querySelector("table.runs");
  const visible = () => [...runs.tBodies[0].rows].filter((row) => !row.hidden).length;
  const box = runs.parentElement.previousElementSibling.querySelector("input");
  const filtered = ["cutmix", "cutmix done 3", "nobody"].map((text) => {
    box.value = text;
    box.dispatchEvent(new Event("input"));
    return visible();
  });
  const link = table.querySelector('a[href^="#cell-"]');
  const links = [...document.querySelectorAll('a[href^="#"]')].map((each) => each.hash.slice(1));
  const frames = [...document.querySelectorAll(".scroll")];
  const wide = frames.filter((frame) => frame.scrollWidth > frame.clientWidth + 1);
  const shown = [...document.images].filter((image) => image.getClientRects().length > 0);
  document.getElementById("probe").textContent = JSON.stringify({
    images: shown.length,
    broken: shown.filter((image) => image.naturalWidth === 0).length,
    requests: performance.getEntriesByType("resource")
      .map((entry) => entry.name).filter((name) => !name.startsWith("data:")),
    width: document.documentElement.scrollWidth,
    window: window.innerWidth,
    title: document.title,
    before, sorted, filtered,
    dead: links.filter((id) => !document.getElementById(id)).length,
    links: links.length,
    hint: link.title,
    unnamed: document.querySelectorAll("img:not([alt]), img[alt='']").length,
    small: [...document.querySelectorAll("table.advice td")].filter(
      (cell) => parseFloat(getComputedStyle(cell).fontSize) < 11).length,
    wide: wide.length,
    unhinted: wide.filter((frame) => !frame.matches(".wide.more")).length,
    errors: window.errors,
    headings: [...document.querySelectorAll("h1, h2")].map((heading) => heading.textContent.trim()),
  });
};
</script>
"""


@pytest.fixture(scope="module")
def page(full_sweep: SweepFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with a probe at its end that says what the browser made of it."""
    folder = tmp_path_factory.mktemp("browser")
    report = write_report(full_sweep, out_dir=folder / "report")
    probed = folder / "probed.html"
    html = report.html.read_text(encoding="utf-8")
    html = html.replace("<script>", f"{WATCH}<script>", 1)
    probed.write_text(html.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    return probed


def look(page: Path, width: int, profile: Path) -> dict:
    """What Chromium made of the page in a window of `width` pixels."""
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
            f"--window-size={width},900",
            "--virtual-time-budget=5000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.S)
    assert found and found[1], done.stderr[-2000:]
    return json.loads(found[1].replace("&amp;", "&"))


@pytest.mark.parametrize("width", [1280, 500])
def test_the_report_opens_whole_and_alone(page: Path, width: int, tmp_path: Path) -> None:
    seen = look(page, width, tmp_path)
    assert seen["images"] >= 4
    assert seen["broken"] == 0
    assert seen["requests"] == [], "a self-contained report loads nothing"
    assert seen["width"] <= seen["window"], "the page must not scroll sideways"
    assert "All results" in seen["headings"]
    assert seen["errors"] == []
    assert seen["unhinted"] == 0 and seen["wide"] > (0 if width < 1000 else -1)
    assert seen["unnamed"] == 0 and seen["small"] == 0
    # Sorted by difference, up and down, and by name.
    up, down, by_name = seen["sorted"]
    assert set(seen["before"]) == set(up) and len(up) == 7
    assert next(name for name in up if name != "no mixing") == "Random Erasing"
    assert next(name for name in down if name != "no mixing") == "CutMix"
    assert by_name == sorted(by_name, key=str.lower)
    # 35 runs: those of a method, one of them, none.
    assert seen["filtered"][0] == 5 and 1 <= seen["filtered"][1] <= 5 and seen["filtered"][2] == 0
    assert seen["dead"] == 0 and seen["links"] > 50
    assert seen["hint"].startswith("n = 5; 95% [")
