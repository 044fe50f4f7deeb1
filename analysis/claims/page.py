"""The page of claims that is committed beside the studies that it is made from."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from mixbench.analysis.claims import claim
from mixbench.analysis.claims.judge import Judgement
from mixbench.analysis.claims.listing import as_markdown
from mixbench.analysis.claims.study import VERDICTS
from mixbench.analysis.tables.sources import CSV as RUNS

_REPORT = "report.md"
_HEAD = """# Claims about mixing

What is said about CutMix, MixUp and their kin, with what the studies here say of it. A verdict
holds for its regime: data, network, length of training. Differences are paired, and intervals are
simultaneous at 95 %: a difference that the study's report has keeps the test that it has there, the
others of a claim are a family of their own.

- *Equivalent*: the difference is smaller than the margin, whatever its sign.
- *Undecided (N more)*: so many more replicates would find a difference of the margin with a
  probability of 80 %.

Made by `{command}`; don't edit it.
"""


def page(
    judged: Sequence[Judgement], published: Sequence[Path], path: Path, asked: Sequence[str]
) -> str:
    """Return the page.

    published: the reports it is made from. path: where it will be. asked: the sweeps and folders as
    they were given.
    """
    here = path.absolute().parent
    links = {
        folder.name: os.path.relpath(folder.absolute() / _REPORT, here) for folder in published
    }
    command = shlex.join(["mixbench", "claims", *asked, "--write", str(path)])
    parts = [_HEAD.format(command=command), as_markdown(judged, links)]
    return "\n".join([*parts, digest_line(published)]) + "\n"


def digest_line(published: Iterable[Path]) -> str:
    """Return a line that changes when the claims or the runs change that a page is made from."""
    sum_ = hashlib.sha256()
    files = [*claim.FOLDER.glob("*.yaml")]
    files += [folder / name for folder in published for name in (RUNS, VERDICTS)]
    for file in sorted(files, key=lambda file: (file.parent.name, file.name)):
        if file.is_file():
            sum_.update(f"{file.parent.name}/{file.name}\n".encode() + file.read_bytes())
    return f"<!-- made from {sum_.hexdigest()[:16]} -->"
