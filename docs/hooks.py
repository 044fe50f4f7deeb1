"""Build the site from the READMEs where they are, so that there is one copy of each."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

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
    return files
