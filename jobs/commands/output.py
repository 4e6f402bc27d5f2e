"""Output of commands: the console, results of runs, and tables of figures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overpaint.jobs.runs.run import RunResult
from overpaint.pipeline.runs.folder import REPORT
from rich.console import Console
from rich.table import Table

console = Console(soft_wrap=True, highlight=False, markup=False)
_WIDTH = 140
_NUM_CODES = 3


def print_result(result: RunResult) -> None:
    """Prints the counts of a finished run, its success, prompts that were cut, and its files."""
    ledger, storage = result.ledger, result.folder.storage
    console.print(
        f"\nplanned {ledger.planned} = accepted {ledger.accepted} + rejected {ledger.rejected} "
        f"+ failed {ledger.failed}"
    )
    for name, success in result.success.items():
        matching = _share(success.successful, success.planned)
        oracle = _share(success.oracle, success.measured)
        console.print(f"edits that match the truth, {name}: {matching} (oracle {oracle})")
    if result.tick is not None:
        console.print(result.tick.in_words())
    for name, cut in result.cut_prompts.items():
        console.print(cut.in_words(name))
    console.print(f"report   {storage.at(REPORT)}")
    console.print(f"images   {storage.at('images')}")
    console.print(f"manifest {storage.at('manifest')}")
    if 2 * ledger.failed > ledger.planned:
        console.print(_failures(result))


def servers_sentence(stages: Sequence[str]) -> str:
    """Returns a sentence on stages whose pictures a server makes, which need not repeat itself."""
    names = " and ".join(repr(name) for name in stages)
    return f"stage {names} asks a server, which need not make the same picture again"


def _failures(result: RunResult) -> str:
    """Returns the last line of a run that went wrong for most of its rows."""
    ledger, codes = result.ledger, list(result.error_codes.items())
    top = ", ".join(f"{code} {num_rows}" for code, num_rows in codes[:_NUM_CODES])
    more = f" and {len(codes) - _NUM_CODES} more codes" if len(codes) > _NUM_CODES else ""
    is_all = ledger.failed == ledger.planned
    who = "every row" if is_all else f"{ledger.failed} of {ledger.planned} rows"
    return f"{who} failed: {top}{more}; `overpaint redrive` tries them again once that is mended"


def _share(count: int, total: int) -> str:
    return f"{count}/{total} = {count / total:.0%}" if total else "none measured"


def print_figures(rows: Sequence[dict[str, Any]], file: Path | None = None) -> None:
    """Prints measured figures as a table, and writes them as JSON where a file is given."""
    table = Table(*rows[0], box=None)
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    # Wide enough for every column, also where there is no terminal.
    console.print(table, width=max(console.width, _WIDTH))
    write_figures(rows, file)


def write_figures(rows: Sequence[dict[str, Any]], file: Path | None) -> None:
    """Writes measured figures as JSON where a file is given."""
    if file is not None:
        file.write_text(json.dumps({"rows": list(rows)}, indent=2) + "\n")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
