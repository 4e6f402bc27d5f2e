"""Training pairs from drawn scenes whose true edits are known: what the choice among tries gains.

Several editors try each edit, the policy of the recipe chooses, and the truth says which of the
tries were right. Instructions are paraphrases of those that papercut's data sets hold.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from overpaint.jobs.papercut.dataset import ROWS_FILE, SEEDS_PER_DATASET, write_dataset
from overpaint.jobs.papercut.edits import sample_edit
from overpaint.jobs.report.truth import TRUTH_SUCCESS
from overpaint.jobs.runs.run import run
from overpaint.pipeline.edit_types import EDIT_TYPES
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.runs.manifest import ACCEPTED

HOW = """\
Edits of unseen papercut scenes over the 12 types, their instructions paraphrased, each tried
several times by each editor of the recipe; its policy keeps the best. `first`: share of edits whose
first try is right, by the editor that does best over all types (`editor`). `chosen`: share of the
pairs that the policy keeps that are right. `kept`: share of edits of which a pair is kept. `any`:
share of edits of which any try is right, which bounds what a choice can reach. Right: success
against the true edited image, as `truth` measures it."""

_COLUMNS = ("source_uri", "edit_type", "method", "candidate", "status", TRUTH_SUCCESS)


class _Edit(NamedTuple):
    """Tries at one edit."""

    edit_type: str
    tries: list[Mapping[str, Any]]

    def first(self, editor: str) -> bool:
        """Tells whether the first try of an editor is right."""
        own = [t for t in self.tries if t["method"] == editor]
        return bool(own) and bool(min(own, key=lambda t: t["candidate"])[TRUTH_SUCCESS])

    @property
    def kept(self) -> list[Mapping[str, Any]]:
        """The tries that the policy keeps."""
        return [t for t in self.tries if t["status"] == ACCEPTED]


def measure_pairs(
    plan: Plan, folder: Path, num_rows: int, seed: int, *, ray: bool = True
) -> list[dict[str, Any]]:
    """Measures what a recipe's choice among tries gains, by edit type and over all.

    Args:
        plan: plan whose edits are tried by several editors, with `truth` and a policy.
        folder: empty folder for the drawn images and the run.
        num_rows: edits to try; the types alternate.
        seed: seed of the edits.
        ray: whether the run is on a local Ray.

    Returns:
        A row of shares for each edit type, and one for all.

    Raises:
        UsageError: no stage of the plan measures the truth.
    """
    if TRUTH_SUCCESS not in {column.name for column in plan.stored_columns()}:
        raise UsageError(f"recipe {plan.name!r}: it needs the stage truth")
    write_dataset(folder / "drawn", rows=num_rows, seed=seed, edit_types=["all"])
    _paraphrase(folder / "drawn" / ROWS_FILE, seed)
    result = run(plan, input=str(folder / "drawn"), output=str(folder / "run"), ray=ray)
    edits = list(_edits(list(result.rows(_COLUMNS))))
    editors = sorted({t["method"] for edit in edits for t in edit.tries if t["method"]})
    best = max(editors, key=lambda editor: sum(edit.first(editor) for edit in edits))
    groups = {kind: [edit for edit in edits if edit.edit_type == kind] for kind in EDIT_TYPES}
    return [
        _shares(kind, group, best) for kind, group in (*groups.items(), ("all", edits)) if group
    ]


def _paraphrase(file: Path, seed: int) -> None:
    """Puts another phrasing in the place of each instruction of a data set, where there is one."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(rows):
        edit = sample_edit(seed * SEEDS_PER_DATASET + number, row["edit_type"], "test")
        others = [text for text in edit.phrasings if text != row["instruction"]]
        row["instruction"] = others[number % len(others)] if others else row["instruction"]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def _edits(rows: Sequence[Mapping[str, Any]]) -> Iterator[_Edit]:
    tries: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        tries.setdefault(row["source_uri"], []).append(row)
    for group in tries.values():
        yield _Edit(group[0]["edit_type"], group)


def _shares(kind: str, edits: Sequence[_Edit], editor: str) -> dict[str, Any]:
    kept = [t for edit in edits for t in edit.kept]
    right = sum(bool(t[TRUTH_SUCCESS]) for t in kept)
    return {
        "edit_type": kind,
        "rows": len(edits),
        "editor": editor,
        "first": sum(edit.first(editor) for edit in edits) / len(edits),
        "chosen": right / len(kept) if kept else None,
        "kept": sum(bool(edit.kept) for edit in edits) / len(edits),
        "any": sum(any(t[TRUTH_SUCCESS] for t in edit.tries) for edit in edits) / len(edits),
    }
