"""Checks an export by its trainer's own rule: every example that was written must be seen."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from overpaint.jobs.export.export import ROWS
from overpaint.jobs.export.exported import Exported, Fault, Seen
from overpaint.jobs.export.formats import find_format
from overpaint.jobs.verify.digest_set import DigestSet
from overpaint.pipeline.errors import UsageError

MOST_NAMED = 10
"""Faults that are named; further ones are counted."""


@dataclass(slots=True)
class ExportCheck:
    """The result of checking an export.

    Attributes:
        written: examples that were written, by split.
        seen: examples that a trainer sees, by split.
        faults: first sentences about what it would drop, cut or misread.
        num_faults: number of all such sentences.
    """

    written: dict[str, int]
    seen: Counter[str] = field(default_factory=Counter[str])
    faults: list[str] = field(default_factory=list[str])
    num_faults: int = 0

    @property
    def is_whole(self) -> bool:
        """True where a trainer sees every example, and nothing is at fault."""
        return not self.num_faults and dict(self.seen) == self.written

    def add(self, fault: Fault) -> None:
        """Counts a fault, and names it while few are named."""
        self.num_faults += 1
        if len(self.faults) < MOST_NAMED:
            where = f"{fault.split} {fault.name}: " if fault.name else ""
            self.faults.append(f"{where}{fault.sentence}")


def verify_export(exported: Exported) -> ExportCheck:
    """Checks an export.

    Args:
        exported: export to check.

    Raises:
        UsageError: this version of Overpaint does not know the export's format.

    Example:
        >>> verify_export(Exported.find("pairs")).is_whole
        True
    """
    layout = find_format(exported.facts["format"], exported.facts.get("like"))
    check = ExportCheck(exported.splits)
    met: dict[str, DigestSet] = {split: DigestSet() for split in check.written}
    for split, names in _chunks(layout.findings(exported), check):
        met.setdefault(split, DigestSet()).add(names)
    for fault in _lost(exported, met):
        check.add(fault)
    for split, written in check.written.items():
        if check.seen[split] > written:
            surplus = check.seen[split] - written
            check.add(Fault(f"{split}: {surplus} examples more than were written"))
    return check


def _chunks(
    findings: Iterator[Seen | Fault], check: ExportCheck
) -> Iterator[tuple[str, list[str]]]:
    """Counts findings; yields the names of the examples that they are about, in lists."""
    pending: dict[str, list[str]] = {}
    for found in findings:
        if isinstance(found, Seen):
            check.seen[found.split] += 1
        else:
            check.add(found)
        if found.name:
            names = pending.setdefault(found.split, [])
            names.append(found.name)
            if len(names) >= 4096:
                yield found.split, pending.pop(found.split)
    yield from pending.items()


def _lost(exported: Exported, met: dict[str, DigestSet]) -> Iterator[Fault]:
    """Yields a fault for each example that was written and that nothing was said about."""
    try:
        schema = exported.schema(ROWS)
    except FileNotFoundError:
        yield Fault(f"{ROWS} is missing: it names the examples that were written")
        return
    if not {"name", "split"} <= set(schema.names):
        raise UsageError(f"{exported.storage.at(ROWS)}: not the rows of an export")
    for rows in exported.tables(ROWS, ["name", "split"]):
        for split in dict.fromkeys(row["split"] for row in rows):
            names = [row["name"] for row in rows if row["split"] == split]
            known = met.get(split, DigestSet()).contains(names)
            yield from (
                Fault("it is gone: the trainer does not see it", split, name)
                for name, is_known in zip(names, known, strict=True)
                if not is_known
            )
