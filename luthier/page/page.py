"""The whole page as text: one file, with its style and script inside, that asks the network for nothing.

What a log says is text from anywhere. It is escaped by :mod:`.markup`; besides, the page's own policy lets browsers run
no script and load nothing but what this module puts in, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from .. import __version__
from . import sections
from .collect import Report, describe
from .markup import Markup, h, join
from .task_sections import Code, details

_SECTIONS = (
    ("summary", "The model's time"),
    ("tasks", "Tasks"),
    ("roofline", "Roofline"),
    ("noise", "Noise"),
    ("predictions", "Predictions"),
    ("failures", "Failures"),
    ("machine", "Machine"),
    ("details", "Each task"),
)


def render(report: Report, code: Code, command: str, made: str) -> str:
    """The page. code: of the tasks that show theirs; command: what shows that of others; made: when, for people."""
    style, script = (_resource(name) for name in ("page.css", "page.js"))
    title = f"Tuning report: {report.title}"
    body = join(
        h(
            "header", h("h1", title), h("p", f"{describe(report.machine)} · {len(report.trials)} trials of "
            f"{len(report.tasks)} tasks · made {made} by luthier {__version__}"), sections.contents(_SECTIONS),
        ),
        h(
            "main", sections.summary(report), sections.tasks(report),
            h("div", sections.roofline(report), sections.noise(report), class_="columns"),
            sections.predictions(report),
            sections.failures(report),
            sections.circumstances(report), details(report, code, command),
        ),
    )  # fmt: skip
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = join(
        h("meta", charset="utf-8"),
        h("meta", http_equiv="Content-Security-Policy", content=policy),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("title", title),
        h("link", rel="icon", href="data:,"),
        h("style", Markup(style)),
    )
    page = h("html", h("head", head), h("body", body, h("script", Markup(script))), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
