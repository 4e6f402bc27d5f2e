"""The report of a run: one static HTML file beside the manifest, with nothing to fetch.

Figures are of all rows. The gallery shows a sample of them, and says so. The page may run only the
script that is in it, and may show only the pictures that are in it, whatever a row's text says.
"""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from overpaint.jobs.report import charts as report_charts
from overpaint.jobs.report import page
from overpaint.jobs.report.charts import chart
from overpaint.jobs.report.counts import EndingCounter, count_pending
from overpaint.jobs.report.cuts import CutCounter
from overpaint.jobs.report.format import whole
from overpaint.jobs.report.rows import RowReader, RowSampler, shared_columns, shown_columns
from overpaint.jobs.report.scan import scan_manifest
from overpaint.jobs.report.scores import Histograms, ScoreRange, ScoreRanges
from overpaint.jobs.report.security import content_security_policy
from overpaint.jobs.report.stages import MethodCounter, StageColumns, stage_columns
from overpaint.jobs.report.thumbnails import ImageReader, ThumbnailSheet
from overpaint.jobs.report.truth import SuccessCounter
from overpaint.jobs.report.winners import WinnerCounter, winner_lines
from overpaint.pipeline import columns as c
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.runs.folder import REPORT, STATS, RunFolder
from overpaint.pipeline.runs.manifest import Ledger
from overpaint.pipeline.runs.record import RunRecord

MAX_ROWS = 600
"""Rows in the gallery: what a browser opens at once, and a mail takes as an attachment."""
_MAX_IMAGE_BYTES = 6_400_000
"""Size of all thumbnails, before they are written as text, which takes a third more."""
_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("rows.js", "lightbox.js", "gallery.js")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSummary:
    """The result of one pass over a manifest: counts of all of its rows.

    Attributes:
        record: record of the run; None where the folder holds none.
        policy: policy of the run.
        stages: columns by the stages that wrote them.
        schema: columns of the manifest; none where no part is written.
        endings: rows by their ending.
        success: success against the truth, by edit type.
        methods: rows by method and checkpoint, for each editing stage.
        winners: rows by edit type and editor, of the last editing stage; none without one.
        cuts: rows with prompts that a text encoder does not see whole.
        ranges: range of every score.
        sampler: rows that a gallery shows.
    """

    record: RunRecord | None
    policy: Policy
    stages: StageColumns
    schema: pa.Schema
    endings: EndingCounter
    success: SuccessCounter
    methods: list[MethodCounter]
    winners: list[WinnerCounter]
    cuts: CutCounter
    ranges: ScoreRanges
    sampler: RowSampler

    @property
    def ledger(self) -> Ledger:
        """The counts of the rows in the manifest."""
        return self.endings.ledger()

    @property
    def scores(self) -> dict[str, ScoreRange]:
        """The range of every score, without counts of cut tokens where none is cut."""
        uncut = self.cuts.by_name.keys() - self.cuts.found.keys()
        return {name: score for name, score in self.ranges.by_name.items() if name not in uncut}


def summarise_manifest(folder: RunFolder) -> ManifestSummary:
    """Reads the manifest of a run once, part by part.

    Args:
        folder: run folder, finished or not.

    Example:
        >>> summary = summarise_manifest(RunFolder(Storage("demo-run")))
        >>> print(summary.ledger.accepted, summary.success.total)
    """
    record = RunRecord.find(folder)
    policy = Policy.model_validate((record.recipe.get("policy") if record else None) or {})
    stages = stage_columns(record, folder)
    endings, success = EndingCounter(), SuccessCounter(c.EDIT_TYPE.name)
    methods, cuts = [MethodCounter(edit) for edit in stages.edits], CutCounter(stages.cuts)
    winners = [WinnerCounter(edit) for edit in stages.edits[-1:]]
    ranges, sampler = ScoreRanges(len(folder.parts("manifest"))), RowSampler(MAX_ROWS, policy)
    schema = scan_manifest(folder, [endings, success, *methods, *winners, cuts, ranges, sampler])
    return ManifestSummary(
        record=record,
        policy=policy,
        stages=stages,
        schema=schema,
        endings=endings,
        success=success,
        methods=methods,
        winners=winners,
        cuts=cuts,
        ranges=ranges,
        sampler=sampler,
    )


def write_report(folder: RunFolder, summary: ManifestSummary | None = None) -> None:
    """Writes `report.html`; what is missing in the folder is missing in the report.

    Args:
        folder: run folder, finished or not; rows count where their part of the manifest is written.
        summary: summary of the manifest as it is; None to read it here.

    Example:
        >>> write_report(RunFolder(Storage("s3://bucket/run")))
    """
    folder.storage.write(REPORT, _html(folder, summary or summarise_manifest(folder)).encode())


def _html(folder: RunFolder, summary: ManifestSummary) -> str:
    """Returns the page, after a second pass over the manifest: for bars, and the sampled rows."""
    record, policy, stages = summary.record, summary.policy, summary.stages
    histograms = Histograms(summary.scores, policy)
    sampled = RowReader(summary.sampler.sample())
    scan_manifest(folder, [histograms, sampled])
    stats: dict[str, Any] = folder.read_json(STATS) or {}
    endings = summary.endings
    ledger = endings.ledger(count_pending(folder))
    return _render(
        name=record.name if record else folder.storage.uri.rsplit("/", 1)[-1],
        ledger=ledger,
        segments=page.segments(ledger),
        facts=page.facts(record, stats, folder.storage.uri, ledger.accepted),
        identities=page.identities(record),
        versions=page.versions(record, stats),
        recipe=page.recipe_text(record),
        stages=page.stage_lines(stats),
        cuts=[cut.in_words(name) for name, cut in summary.cuts.found.items()],
        endings=page.ending_lines(endings),
        rules=page.rule_lines(endings, policy),
        num_judged=endings.num_judged,
        truth=page.truth_lines(summary.success),
        edits=page.edit_lines(summary.methods),
        winners=winner_lines(summary.winners),
        charts=[
            chart(
                name,
                score,
                histograms.bins(name),
                policy.bounds.get(name),
                about=page.about_column(name, stages),
            )
            for name, score in summary.scores.items()
        ],
        chart_size=report_charts,
        num_shown=len(sampled.rows),
        num_rows=endings.num_rows,
        num_places=summary.sampler.num_places,
        data=_gallery(folder, sampled.rows, summary),
    )


def _gallery(
    folder: RunFolder, rows: list[dict[str, Any]], summary: ManifestSummary
) -> dict[str, Any]:
    """Returns what the page's script shows: rows, thumbnails, and how to name and judge scores."""
    shared = shared_columns(rows)
    sheet = ThumbnailSheet(ImageReader(folder), rows, _MAX_IMAGE_BYTES)
    return {
        "rows": [
            {"values": shown_columns(row, shared), "images": images}
            for row, images in zip(rows, sheet.shown, strict=True)
        ],
        "shared": shared,
        "thumbnails": [
            each and [each.data_uri, each.width_px, each.height_px, int(each.is_crisp)]
            for each in sheet.thumbnails
        ],
        "columns": summary.schema.names,
        "scores": list(summary.scores),
        "methods": [edit.method for edit in summary.stages.edits],
        "policy": {
            name: bounds.model_dump(mode="json", exclude_none=True)
            for name, bounds in summary.policy.bounds.items()
        },
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
        data=Markup(page.script_json(data)),
        security=content_security_policy(style, script),
    )


def _script() -> str:
    """Joins the files of the page's script in one scope, apart from the page's own names."""
    files = "\n".join((_TEMPLATES / name).read_text() for name in _SCRIPTS)
    return f'"use strict";\n(() => {{\n{files}}})();\n'
