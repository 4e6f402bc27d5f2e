"""The parts of a report's page, as its template shows them: in words, shares and widths."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overpaint.jobs.report.counts import EndingCounter, policy_rules
from overpaint.jobs.report.format import NOTHING, duration, moment, share, short, whole
from overpaint.jobs.report.stages import MAX_VALUES, MethodCounter, MethodRows, StageColumns
from overpaint.jobs.report.truth import Success, SuccessCounter
from overpaint.pipeline.error_codes import ROW_ERRORS
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.runs.manifest import Ledger
from overpaint.pipeline.runs.record import RunRecord

_MAX_LINES = 40
_OTHER_CODE = "A code of the operator's own, or the class of an exception that it raised."
_SHOWN_APART = ("method", "checkpoint")
_LEDGER_WORDS = ("accepted", "rejected", "failed", "pending")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A piece of the ledger's bar.

    Attributes:
        status: accepted, rejected, failed or pending.
        num_rows: number of rows.
        share: share of the planned rows, in words.
        x: left edge, in per cent of the bar.
        width: width, in per cent of the bar.
    """

    status: str
    num_rows: int
    share: str
    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a table with a bar.

    Attributes:
        label: subject of the line.
        figures: figures of the line, in the order of the table's columns.
        width: width of the bar, in per cent.
        status: status whose colour the line has; "" for none.
        mark: second value on the bar, in per cent; None for none.
        choose: values that a click looks for in the gallery, by the name of the filter.
        detail: explanation below the label; "" for none.
        below: explanation below the whole line; "" for none.
    """

    label: str
    figures: tuple[str, ...]
    width: float
    status: str = ""
    mark: float | None = None
    choose: Mapping[str, str] | None = None
    detail: str = ""
    below: str = ""


def segments(ledger: Ledger) -> list[Segment]:
    """Returns the ledger as pieces of a bar, side by side."""
    pieces: list[Segment] = []
    x = 0.0
    for status in _LEDGER_WORDS:
        num_rows = getattr(ledger, status)
        width = 100 * num_rows / ledger.planned if ledger.planned else 0.0
        pieces.append(
            Segment(
                status=status,
                num_rows=num_rows,
                share=share(num_rows, ledger.planned),
                x=round(x, 3),
                width=round(width, 3),
            )
        )
        x += width
    return pieces


def facts(
    record: RunRecord | None, stats: Mapping[str, Any], uri: str, num_accepted: int
) -> list[tuple[str, str]]:
    """Lists the facts of a run as a whole: its folder, input, times, speed and cost."""
    pairs: list[tuple[str, str]] = [("Folder", uri)]
    pairs += [("Input", record.input)] if record and record.input else []
    pairs += [("Started", moment(stats["started_at"]))] if stats.get("started_at") else []
    pairs += [("Finished", moment(stats["finished_at"]))] if stats.get("finished_at") else []
    pairs += [("Took", duration(stats["wall_s"]))] if _is_number(stats.get("wall_s")) else []
    if _is_number(stats.get("rows_per_s")):
        pairs.append(("Speed", f"{short(stats['rows_per_s'])} rows/s"))
    if num_accepted and (work_s := sum(_stage_seconds(stats).values())):
        pairs.append(("Work", f"{duration(work_s / num_accepted)} for each accepted row"))
    if isinstance(stats.get("num_tasks"), int):
        pairs.append(("Tasks", whole(stats["num_tasks"])))
    hosts = stats.get("hosts") or []
    pairs += [("Hosts" if len(hosts) > 1 else "Host", _few(hosts))] if hosts else []
    return pairs


def identities(record: RunRecord | None) -> list[tuple[str, str]]:
    """Lists the fingerprints of a run and of its stages, and the weights behind each."""
    if record is None:
        return []
    pairs = [("run", record.fingerprint)] if record.fingerprint else []
    pairs += record.fingerprints.items()
    for stage, revisions in record.revisions.items():
        pairs += [(f"{stage}: {name}", value) for name, value in revisions.items()]
    return pairs


def versions(record: RunRecord | None, stats: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Lists the names and versions of the packages that ran."""
    packages: Mapping[str, Any] = (record and record.versions) or stats.get("versions") or {}
    return [(name, str(value)) for name, value in packages.items()]


def stage_lines(stats: Mapping[str, Any]) -> list[Line]:
    """Returns the seconds of each stage, in the order in which the stages run."""
    stages: Mapping[str, Any] = stats.get("stages") or {}
    seconds = _stage_seconds(stats)
    total = sum(seconds.values())
    return [
        Line(
            label=name,
            figures=(duration(taken), _per_row(taken, stages[name].get("rows"))),
            width=_percent(taken, total),
        )
        for name, taken in seconds.items()
    ]


def _stage_seconds(stats: Mapping[str, Any]) -> dict[str, float]:
    stages: Mapping[str, Any] = stats.get("stages") or {}
    return {name: float(figures.get("seconds") or 0.0) for name, figures in stages.items()}


def ending_lines(counter: EndingCounter) -> list[Line]:
    """Returns the codes with which stages rejected or failed rows, the most frequent first."""
    endings = [(e, n) for e, n in counter.endings.most_common() if e.stage]
    lines = [
        Line(
            label=ending.code or "unknown",
            figures=(ending.stage, whole(num_rows), share(num_rows, counter.num_rows)),
            width=_percent(num_rows, counter.num_rows),
            status=ending.status,
            choose={"status": ending.status, "stage": ending.stage, "reason": ending.code},
            detail=ROW_ERRORS.get(ending.code, _OTHER_CODE),
        )
        for ending, num_rows in endings
    ]
    return _first(lines)


def rule_lines(counter: EndingCounter, policy: Policy) -> list[Line]:
    """Returns the rows that each rule of the policy rejects; rules that none breaks come last."""
    rules = list(dict.fromkeys([*policy_rules(policy), *counter.broken]))
    rules.sort(key=lambda rule: -counter.broken[rule])
    lines = [
        Line(
            label=rule,
            figures=(
                whole(counter.broken[rule]),
                share(counter.broken[rule], counter.num_judged),
                whole(counter.broken_alone[rule]),
            ),
            width=_percent(counter.broken[rule], counter.num_judged),
            status="rejected",
            choose={"reason": rule} if counter.broken[rule] else None,
        )
        for rule in rules
        if counter.broken[rule] or not rule.endswith(" is null")
    ]
    return _first(lines)


def truth_lines(counter: SuccessCounter) -> list[Line]:
    """Returns the success of each edit type beside the oracle; all types together first."""
    types = {edit_type: success for (edit_type,), success in sorted(counter.groups.items())}
    lines = [_truth_line(name or "other", success, name) for name, success in types.items()]
    if len(types) > 1:
        lines.insert(0, _truth_line("all types", counter.total, ""))
    return _first(lines)


def _truth_line(label: str, success: Success, edit_type: str) -> Line:
    return Line(
        label=label,
        figures=(
            share(success.successful, success.planned),
            f"{whole(success.successful)} of {whole(success.planned)}",
            share(success.oracle, success.measured),
        ),
        width=_percent(success.successful, success.planned),
        mark=_percent(success.oracle, success.measured) if success.measured else None,
        choose={"type": edit_type} if edit_type else None,
    )


def edit_lines(counters: Sequence[MethodCounter]) -> list[Line]:
    """Returns the rows of each method and checkpoint, the editing stages one after the other."""
    lines = [
        _edit_line(counter, method, checkpoint, rows, is_alone=len(counters) == 1)
        for counter in counters
        for (method, checkpoint), rows in sorted(
            counter.groups.items(), key=lambda group: (not group[0][0], -group[1].num_rows)
        )
    ]
    return _first(lines)


def _edit_line(
    counter: MethodCounter, method: str, checkpoint: str, rows: MethodRows, *, is_alone: bool
) -> Line:
    label = method or "not edited"
    success = counter.success(method, checkpoint)
    return Line(
        label=label if is_alone else f"{counter.edit.stage}: {label}",
        figures=(
            whole(rows.num_rows),
            share(rows.num_accepted, rows.num_rows),
            share(success.successful, success.planned) if success else NOTHING,
        ),
        width=_percent(rows.num_accepted, rows.num_rows),
        choose={"method": method} if method else None,
        detail=checkpoint,
        below=_settings_text(rows.settings),
    )


def _settings_text(settings: Mapping[str, Sequence[str]]) -> str:
    """Returns settings as people read them, without those that are empty."""
    shown = {
        name: ", ".join(_plain(value) for value in values[:MAX_VALUES])
        + (", …" if len(values) > MAX_VALUES else "")
        for name, values in sorted(settings.items())
        if name not in _SHOWN_APART
    }
    return " · ".join(f"{name} {text}" for name, text in shown.items() if text)


def _plain(value: str) -> str:
    """Returns a JSON value as people write it: a text without quotes, a float in few digits."""
    parsed = json.loads(value)
    if isinstance(parsed, float):
        return f"{parsed:g}"
    return parsed if isinstance(parsed, str) else value


def about_column(name: str, stages: StageColumns) -> str:
    """Returns the stage that wrote a column, and the column's meaning; "" where unknown."""
    if name not in stages.writers:
        return ""
    return f"{stages.writers[name]}: {stages.docs[name]}"


def recipe_text(record: RunRecord | None) -> str:
    """Returns the resolved recipe, for people."""
    return json.dumps(record.recipe if record else {}, indent=2, ensure_ascii=False)


def script_json(value: Any) -> str:
    """Returns JSON for a script element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _first(lines: list[Line]) -> list[Line]:
    """Cuts lines to as many as a page can bear, and says how many more there are."""
    more = len(lines) - _MAX_LINES
    if more <= 0:
        return lines
    nothing = ("",) * len(lines[0].figures)
    return [*lines[:_MAX_LINES], Line(label=f"and {whole(more)} more", figures=nothing, width=0)]


def _percent(part: float, total: float) -> float:
    return round(100 * part / total, 3) if total else 0.0


def _per_row(seconds: float, num_rows: Any) -> str:
    if not _is_number(num_rows) or not num_rows:
        return NOTHING
    each = seconds / num_rows
    return f"{short(each * 1000)} ms" if each < 1 else f"{short(each)} s"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _few(names: Sequence[Any]) -> str:
    shown = ", ".join(str(name) for name in names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown
