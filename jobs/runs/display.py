"""Display of a run: a live table in a terminal, plain lines elsewhere."""

import time
from types import TracebackType

from overpaint.pipeline.runs.manifest import Ledger
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_LINE_EVERY_S = 10.0
_COLOURS = {"accepted": "green", "rejected": "yellow", "failed": "red", "pending": "dim"}


class RunDisplay:
    """Display of rows by status, rate, time left, and seconds by stage.

    A context manager, so that a live table is taken down whatever happens.

    Args:
        console: console to print on.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._start = time.monotonic()
        self._ended_before = 0
        self._last_line = 0.0

    def __enter__(self) -> "RunDisplay":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def noted(self, sentence: str) -> None:
        """Shows a sentence on what is read of the input."""
        self._console.print(sentence)

    def reopened(self, num_rows: int) -> None:
        """Shows how many failed rows are tried again."""
        self._console.print(f"{num_rows} failed rows are tried again")

    def started(self, ledger: Ledger) -> None:
        """Shows what there is to do, and what an earlier session has done."""
        self._start = time.monotonic()
        self._ended_before = ledger.ended
        if ledger.ended:
            self._console.print(f"resuming: {ledger.ended} of {ledger.planned} rows have ended")
        else:
            self._console.print(f"{ledger.planned} rows planned")

    def advanced(self, ledger: Ledger, seconds: dict[str, float]) -> None:
        """Shows the counts after a task, and the seconds by stage so far."""
        if self._live:
            self._live.update(self._table(ledger, seconds))
        elif time.monotonic() - self._last_line >= _LINE_EVERY_S or not ledger.pending:
            self._last_line = time.monotonic()
            self._console.print(self._line(ledger), highlight=False)

    def _pace(self, ledger: Ledger) -> tuple[float, str]:
        elapsed = max(time.monotonic() - self._start, 1e-9)
        rate = (ledger.ended - self._ended_before) / elapsed
        return rate, duration(ledger.pending / rate) if rate else "unknown"

    def _line(self, ledger: Ledger) -> str:
        rate, left = self._pace(ledger)
        return (
            f"{ledger.ended}/{ledger.planned} rows: {ledger.accepted} accepted, "
            f"{ledger.rejected} rejected, {ledger.failed} failed; {rate:.2f} rows/s, {left} left"
        )

    def _table(self, ledger: Ledger, seconds: dict[str, float]) -> RenderableType:
        rate, left = self._pace(ledger)
        counts = Text("  ").join(
            Text(f"{getattr(ledger, name)} {name}", style) for name, style in _COLOURS.items()
        )
        bar = ProgressBar(total=max(ledger.planned, 1), completed=ledger.ended)
        pace = Text(f"{rate:.2f} rows/s, {left} left", "dim")
        stages = Table("stage", "seconds", "share", box=None, header_style="dim")
        total = sum(seconds.values()) or 1.0
        for name, taken in seconds.items():
            stages.add_row(name, f"{taken:.1f}", f"{taken / total:.0%}")
        return Group(counts, bar, pace, stages)


def duration(seconds: float) -> str:
    """Words seconds as people say them.

    Example:
        >>> duration(12_000)
        '3 h 20 min'
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds // 3600:.0f} h {seconds % 3600 / 60:.0f} min"
