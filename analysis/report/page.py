"""Render the sections as HTML and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup, escape

from mixbench.analysis.report.files import HTML, MARKDOWN

_WORDS: dict[str, dict[str, Any]] = {
    HTML: {
        "marked": "Coloured",
        "beside": "Below",
        "colours": "green better, red worse",
    },
    MARKDOWN: {"marked": "Bold", "beside": "After", "colours": ""},
}
"""How the notes below tables call what is clear, and where a difference stands."""


TITLES = {
    "words": "In words",
    "advice": "Every method in every regime",
    "claims": "Claims by regime",
    "question": "The declared question",
    "results": "All results",
    "budget": "Over the length of training",
    "dose": "Over the dose of mixing",
    "schedules": "Schedules",
    "noise": "Gradient noise by epoch",
    "classes": "By class",
    "occlusion": "Occlusion",
    "calibration": "Reliability",
    "factors": "Pairs and factors",
    "tuning": "Tuning",
    "measurements": "Further measurements",
    "checks": "Checks of the intervals",
    "gallery": "What each method does",
    "setup": "Set-up",
    "runs": "Runs",
    "provenance": "Provenance and commands",
}
"""The id of each fold of the page, in order, and its title."""


def render(sections: Mapping[str, Any]) -> dict[str, str]:
    """Return file name -> page."""
    there = _folds(sections)
    contents = [(id, title) for id, title in TITLES.items() if there.get(id, True)]
    page = {**sections, "titles": TITLES, "contents": contents}
    return {name: _environment(name).get_template(name).render(page) for name in (MARKDOWN, HTML)}


def _folds(sections: Mapping[str, Any]) -> dict[str, bool]:
    """Tell of each fold that is not on every page whether it is on this one."""
    with_figures = ("budget", "dose", "schedules", "noise", "occlusion", "calibration")
    return {
        **{name: bool(sections[name]["figures"]) for name in with_figures},
        "advice": bool(sections["first"]["overview"] and sections["first"]["table"]),
        "claims": bool(sections["claims"]["regimes"]),
        "question": bool(sections["question"]["table"] or sections["question"]["notes"]),
        "classes": bool(sections["classes"]["table"] or sections["classes"]["note"]),
        "factors": bool(sections["factors"]["tables"] or sections["pairs"]["figures"]),
        "tuning": bool(sections["tuning"]["tables"]),
        "measurements": bool(sections["measurements"]["parts"]),
        "checks": any(
            (
                sections["checks"]["table"],
                sections["checks"]["ranks"],
                sections["results"]["components"],
            )
        ),
        "gallery": bool(sections["mixed"]["figures"]),
    }


def render_contrasts(page: Mapping[str, Any]) -> dict[str, str]:
    """Return file name -> page of contrasts alone."""
    contents = [(f"metric-{n}", part["title"]) for n, part in enumerate(page["parts"], start=1)]
    return {
        name: _environment(name).get_template(template).render({**page, "contents": contents})
        for name, template in ((MARKDOWN, "contrasts.md"), (HTML, "contrasts.html"))
    }


def markdown(text: object) -> Markup:
    """Return any text as one line of Markdown that shows it and does nothing else."""
    line = " ".join(str(text).split())
    line = re.sub(r"([\\`*\[\]|~])", r"\\\1", line)
    # An underscore inside a word is harmless, and random\_erasing is ugly to read.
    line = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", line)
    line = re.sub(r"^([#+-]|\d+[.)])(?=\s)", r"\\\1", line)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Markup(line)


def sentences(text: str) -> tuple[str, str]:
    """Return the first sentence, and the others.

    Examples:
        >>> sentences("Use CutMix at prob 0.5. Avoid RICAP. Only 3 seeds.")
        ('Use CutMix at prob 0.5.', 'Avoid RICAP. Only 3 seeds.')
    """
    first, *rest = re.split(r"(?<=\.)\s+(?=[A-Z])", text, maxsplit=1)
    return first, "".join(rest)


def fenced(text: object) -> Markup:
    """Return any text as a fenced block of Markdown, the fence longer than any in the text."""
    ticks = max((len(run) for run in re.findall(r"`+", str(text))), default=0)
    fence = "`" * max(3, ticks + 1)
    return Markup(f"{fence}\n{text}\n{fence}")


def _environment(name: str) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mixbench.analysis", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(_WORDS[name])
    environment.filters["md"] = markdown
    environment.filters["sentences"] = sentences
    environment.filters["fenced"] = fenced
    # The notes below tables are the same for both pages, but for how text is escaped.
    environment.filters["shown"] = escape if name == HTML else markdown
    return environment
