"""Build the site from the READMEs where they are, so that there is one copy of each."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import mixbench
from mixbench.augmentations.card import Card
from mixbench.augmentations.registry import MethodInfo
from mixbench.experiments.config.method_text import parameter_text, passes_text
from mixbench.experiments.data import fetch

METHODS = "reference/methods.md"
ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    "*.md",
    "results/*.png",
    "results/**/*.png",
    "results/**/*.csv",
    "CITATION.cff",
    ":!analysis/templates",
    ":!tests/analysis/report/golden",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the repository's Markdown files and figures at the paths that they have in it."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", *PAGES]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if not name.startswith("docs/") and (ROOT / name).is_file():
            files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for name, picture in _pictures().items():
        files.append(File.generated(config, f"reference/pictures/{name}.png", content=picture))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Add the cards of all methods to their page."""
    if page.file.src_uri != METHODS:
        return markdown
    return "\n\n".join([markdown, *(_section(name) for name in mixbench.available())])


def _section(name: str) -> str:
    """Return a method's picture, card and reference as Markdown."""
    info = mixbench.describe(name)
    parts = [f"## {name}", f"{info.summary[0].upper()}{info.summary[1:]}."]
    parts.append(f"![Eight images, mixed by {name}](pictures/{name}.png)")
    if info.card is not None:
        parts += [f"**When to use.** {info.card.use}", _values(info, info.card)]
    if info.passes:
        parts.append(f"**Cost.** {passes_text(info.passes)}; a pass back counts 2.")
    if not info.source:
        module = f"mixbench.augmentations.methods.{name}"
        parts.append(f"::: {module}\n    options:\n      heading_level: 3")
    return "\n\n".join(parts)


def _values(info: MethodInfo, card: Card) -> str:
    """Return the suggested values as a table; the common parameters at their defaults are left."""
    defaults = {one.name: one.default for one in info.parameters}
    own = [key for key in defaults if key not in ("prob", "per_sample", "pairing", "labels")]
    rows = ["| Suggested values | from |", "|---|---|"]
    for source, values in card.values.items():
        shown = {**{key: defaults[key] for key in own}, **values}
        shown = {"prob": defaults["prob"], **shown}
        text = ", ".join(f"{key}: {parameter_text(value)}" for key, value in shown.items())
        rows.append(f"| `{text}` | {source} |")
    return "\n".join(rows)


@cache
def _pictures() -> dict[str, bytes]:
    """Return a PNG of each method, on Fashion-MNIST or, where that is not there, on digits."""
    from mixbench.experiments.config.resolve import parse
    from mixbench.experiments.data.load import load
    from mixbench.experiments.data.pictures import mixed_strip

    name = "fashion_mnist" if fetch.available_offline("fashion_mnist") else "digits"
    images = load(parse({"dataset": {"name": name, "train_size": 200}}).dataset, "cpu")
    pictures = {}
    for method in mixbench.available():
        section = {"name": method, **mixbench.resolve(method, {"prob": 1.0})}
        pictures[method] = mixed_strip(images, section)
    return pictures
