"""The parts of a report's page, as its template shows them: words and shares, no decisions left."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overpaint.jobs.report.data import Counts, policy_rules
from overpaint.jobs.report.format import NOTHING, duration, moment, share, short, whole
from overpaint.jobs.report.truth import Success
from overpaint.pipeline.error_codes import ROW_ERRORS
from overpaint.pipeline.policy import Policy
from overpaint.pipeline.runs.manifest import Ledger

_MAX_LINES = 40
_OTHER_CODE = "A code of the operator's own, or the class of an exception that it raised."
_LEDGER_WORDS = ("accepted", "rejected", "failed", "pending")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A piece of the ledger's bar, in per cent of it."""

    status: str
    num_rows: int
    share: str
    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a table with a bar.

    Args:
        label: what it is about.
        figures: its figures, in the order of the table's columns.
        width: of its bar, in per cent.
        mark: a second value on the bar, in per cent; None where there is none.
        choose: what a click looks for in the gallery, by the name of the filter.
        meaning: what the label means, where the label does not say it.
    """

    label: str
    figures: tuple[str, ...]
    width: float
    status: str = ""
    mark: float | None = None
    choose: Mapping[str, str] | None = None
    meaning: str = ""


def segments(ledger: Ledger) -> list[Segment]:
    """The ledger as pieces of a bar, side by side."""
    found: list[Segment] = []
    x = 0.0
    for status in _LEDGER_WORDS:
        num_rows = getattr(ledger, status)
        width = 100 * num_rows / ledger.planned if ledger.planned else 0.0
        found.append(
            Segment(
                status=status,
                num_rows=num_rows,
                share=share(num_rows, ledger.planned),
                x=round(x, 3),
                width=round(width, 3),
            )
        )
        x += width
    return found


def facts(recipe: Mapping[str, Any], stats: Mapping[str, Any], uri: str) -> list[tuple[str, str]]:
    """What there is to say of a run as a whole: where, when, how fast."""
    found: list[tuple[str, str]] = [("Folder", uri)]
    found += [("Input", str(recipe["input"]))] if recipe.get("input") else []
    found += [("Started", moment(stats["started_at"]))] if stats.get("started_at") else []
    found += [("Finished", moment(stats["finished_at"]))] if stats.get("finished_at") else []
    found += [("Took", duration(stats["wall_s"]))] if _is_number(stats.get("wall_s")) else []
    if _is_number(stats.get("rows_per_s")):
        found.append(("Speed", f"{short(stats['rows_per_s'])} rows/s"))
    if isinstance(stats.get("num_tasks"), int):
        found.append(("Tasks", whole(stats["num_tasks"])))
    hosts = stats.get("hosts") or []
    found += [("Hosts" if len(hosts) > 1 else "Host", _few(hosts))] if hosts else []
    return found


def identities(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Fingerprints of the run and of its stages, and the weights behind each."""
    found = [("run", str(recipe["fingerprint"]))] if recipe.get("fingerprint") else []
    found += [(name, str(value)) for name, value in (recipe.get("fingerprints") or {}).items()]
    for stage, revisions in (recipe.get("revisions") or {}).items():
        found += [(f"{stage}: {name}", str(value)) for name, value in revisions.items()]
    return found


def versions(recipe: Mapping[str, Any], stats: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and versions of the packages that ran."""
    found: Mapping[str, Any] = recipe.get("versions") or stats.get("versions") or {}
    return [(name, str(value)) for name, value in found.items()]


def stage_lines(stats: Mapping[str, Any]) -> list[Line]:
    """Seconds by stage, in the order in which they run."""
    stages: Mapping[str, Any] = stats.get("stages") or {}
    seconds = {name: float(found.get("seconds") or 0.0) for name, found in stages.items()}
    total = sum(seconds.values())
    return [
        Line(
            label=name,
            figures=(duration(taken), _per_row(taken, stages[name].get("rows"))),
            width=_percent(taken, total),
        )
        for name, taken in seconds.items()
    ]


def ending_lines(counts: Counts) -> list[Line]:
    """How rows were turned away by a stage, or failed in it, the most frequent first."""
    endings = [(e, n) for e, n in counts.endings.most_common() if e.stage]
    lines = [
        Line(
            label=ending.code or "unknown",
            figures=(ending.stage, whole(num_rows), share(num_rows, counts.num_rows)),
            width=_percent(num_rows, counts.num_rows),
            status=ending.status,
            choose={"status": ending.status, "stage": ending.stage, "reason": ending.code},
            meaning=ROW_ERRORS.get(ending.code, _OTHER_CODE),
        )
        for ending, num_rows in endings
    ]
    return _first(lines)


def rule_lines(counts: Counts, policy: Policy) -> list[Line]:
    """What each rule of the policy turns away; those that nothing breaks come last."""
    rules = list(dict.fromkeys([*policy_rules(policy), *counts.broken]))
    rules.sort(key=lambda rule: -counts.broken[rule])
    lines = [
        Line(
            label=rule,
            figures=(
                whole(counts.broken[rule]),
                share(counts.broken[rule], counts.num_judged),
                whole(counts.broken_alone[rule]),
            ),
            width=_percent(counts.broken[rule], counts.num_judged),
            status="rejected",
            choose={"reason": rule} if counts.broken[rule] else None,
        )
        for rule in rules
        if counts.broken[rule] or not rule.endswith(" is null")
    ]
    return _first(lines)


def truth_lines(truth: Mapping[str, Success]) -> list[Line]:
    """Success by edit type beside the oracle; all types together first."""
    lines = [_truth_line(name or "other", truth[name], name) for name in sorted(truth)]
    if len(truth) != 1:
        every = Success(
            *(
                sum(getattr(found, name) for found in truth.values())
                for name in ("planned", "successful", "measured", "oracle")
            )
        )
        lines.insert(0, _truth_line("all types", every, ""))
    return _first(lines) if truth else []


def _truth_line(label: str, found: Success, edit_type: str) -> Line:
    return Line(
        label=label,
        figures=(
            share(found.successful, found.planned),
            f"{whole(found.successful)} of {whole(found.planned)}",
            share(found.oracle, found.measured),
        ),
        width=_percent(found.successful, found.planned),
        mark=_percent(found.oracle, found.measured) if found.measured else None,
        choose={"type": edit_type} if edit_type else None,
    )


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """The resolved recipe, for people."""
    return json.dumps(recipe.get("recipe") or {}, indent=2, ensure_ascii=False)


def script_json(value: Any) -> str:
    """JSON that can stand in a script element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _first(lines: list[Line]) -> list[Line]:
    """As many lines as a page can bear, and how many more there are."""
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
