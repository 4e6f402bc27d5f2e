"""The report of a run: one static HTML file beside the manifest, with nothing to fetch.

Figures are of all rows. The gallery shows a sample of them, and says so. The page may run only the
script that is in it, and may show only the pictures that are in it, whatever a row's text says.
"""

import json
import shlex
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from overpaint.jobs.report import charts as report_charts
from overpaint.jobs.report import page as report_page
from overpaint.jobs.report.charts import Chart, chart
from overpaint.jobs.report.data import (
    Counts,
    counted_columns,
    manifest_schema,
    num_pending,
    score_names,
    survey,
)
from overpaint.jobs.report.format import whole
from overpaint.jobs.report.rows import Picker, read_rows, shared_columns, shown_columns
from overpaint.jobs.report.scores import Histograms, Scores
from overpaint.jobs.report.thumbnails import Album, Pictures
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.runs.folder import RECIPE, REPORT, STATS, RunFolder
from overpaint.pipeline.runs.manifest import Ledger

MAX_ROWS = 600
"""Rows in the gallery: what a browser opens at once, and a mail takes as an attachment."""
_MAX_IMAGE_BYTES = 6_400_000
"""Of all thumbnails, before they are written as text, which takes a third more."""
_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("rows.js", "lightbox.js", "gallery.js")


def write_report(folder: RunFolder) -> None:
    """Writes `report.html`; what is missing in the folder is missing in the report.

    Args:
        folder: a run, finished or not; rows count where their part of the manifest is written.
    """
    folder.storage.write(REPORT, report_html(folder).encode())


def report_html(folder: RunFolder, max_rows: int = MAX_ROWS) -> str:
    """The report as a page.

    Args:
        folder: the run.
        max_rows: in the gallery.
    """
    recipe: dict[str, Any] = folder.read_json(RECIPE) or {}
    stats: dict[str, Any] = folder.read_json(STATS) or {}
    policy = Policy.model_validate((recipe.get("recipe") or {}).get("policy") or {})
    found = examine(folder, policy, max_rows)
    ledger = found.counts.ledger(num_pending(folder))
    return _render(
        name=str(recipe.get("name") or folder.storage.uri.rsplit("/", 1)[-1]),
        ledger=ledger,
        segments=report_page.segments(ledger),
        facts=report_page.facts(recipe, stats, folder.storage.uri),
        identities=report_page.identities(recipe),
        versions=report_page.versions(recipe, stats),
        recipe=report_page.recipe_text(recipe),
        stages=report_page.stage_lines(stats),
        endings=report_page.ending_lines(found.counts),
        rules=report_page.rule_lines(found.counts, policy),
        num_judged=found.counts.num_judged,
        truth=report_page.truth_lines(found.counts.truth),
        charts=found.charts,
        chart_size=report_charts,
        num_shown=len(found.rows),
        num_rows=found.counts.num_rows,
        num_places=found.num_places,
        data=gallery(folder, found, policy),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the manifest says.

    Args:
        columns: of the manifest, in order.
        counts: over all rows.
        charts: of every score, over all rows.
        rows: those that the gallery shows.
        num_places: of the gallery that went to each kind of bad row.
    """

    columns: list[str]
    counts: Counts
    charts: list[Chart]
    rows: list[dict[str, Any]]
    num_places: int


def examine(folder: RunFolder, policy: Policy, max_rows: int) -> Findings:
    """Reads the manifest twice, part by part: for ranges and a choice of rows, then for bars.

    Args:
        folder: the run.
        policy: its bounds.
        max_rows: to choose for the gallery.
    """
    schema = manifest_schema(folder)
    names = score_names(schema) if schema is not None else []
    counts = Counts()
    scores = Scores(names, len(folder.parts("manifest")))
    picker = Picker(max_rows, policy, names)
    if schema is not None:
        columns = [*counted_columns(schema), *names]
        survey(folder, columns, [counts.look, scores.look, picker.look])
    histograms = Histograms(scores.ranges, policy)
    survey(folder, ["status", *names], [histograms.look])
    return Findings(
        columns=schema.names if schema is not None else [],
        counts=counts,
        charts=[
            chart(name, found, histograms.bins(name), policy.root.get(name))
            for name, found in scores.ranges.items()
        ],
        rows=read_rows(folder, picker.picks()),
        num_places=picker.num_places,
    )


def gallery(folder: RunFolder, found: Findings, policy: Policy) -> dict[str, Any]:
    """What the page's script shows: rows, thumbnails, and how to name and judge scores."""
    shared = shared_columns(found.rows)
    album = Album(Pictures(folder), found.rows, _MAX_IMAGE_BYTES)
    return {
        "rows": [
            {"values": shown_columns(row, shared), "images": shown}
            for row, shown in zip(found.rows, album.shown, strict=True)
        ],
        "shared": shared,
        "thumbnails": [
            found and [found.data_uri, found.width_px, found.height_px, int(found.is_crisp)]
            for found in album.thumbnails
        ],
        "columns": found.columns,
        "scores": [chart.name for chart in found.charts],
        "policy": policy.model_dump(mode="json", exclude_none=True),
        "replay": f"overpaint replay {shlex.quote(folder.storage.uri)}",
    }


def _render(*, data: dict[str, Any], ledger: Ledger, **shown: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["whole"] = whole
    environment.filters["json"] = lambda value: json.dumps(value)
    style = (_TEMPLATES / "report.css").read_text()
    script = _script()
    return environment.get_template("report.html").render(
        **shown,
        ledger=ledger,
        style=Markup(style),
        script=Markup(script),
        data=Markup(report_page.script_json(data)),
        security=_content_security_policy(style, script),
    )


def _script() -> str:
    """The page's script: its files in one scope, which the page's own names stay out of."""
    files = "\n".join((_TEMPLATES / name).read_text() for name in _SCRIPTS)
    return f'"use strict";\n(() => {{\n{files}}})();\n'


def _content_security_policy(style: str, script: str) -> str:
    """Allows the page's own style and script, by their hashes, and inlined pictures; no more."""
    return "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            f"style-src {_hash_source(style)}",
            f"script-src {_hash_source(script)}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash_source(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
