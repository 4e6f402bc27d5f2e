"""Judges beside drawn edits whose kind of failure is known."""

from collections.abc import Iterator, Sequence
from typing import Any

from overpaint.cluster.worker.batch import run_stages
from overpaint.cluster.worker.memory import LoadedOperator
from overpaint.jobs.bench.judge_pairs import GOOD, JudgedPair, sample_pairs
from overpaint.jobs.calibrate.calibration import Calibration, JudgedRow, calibrate
from overpaint.jobs.papercut.draw import draw_pixels
from overpaint.operators.forms.pair import OTHER_IMAGE
from overpaint.operators.judge import Judge
from overpaint.pipeline.edit_types import EDIT_TYPES, EditType
from overpaint.pipeline.errors import RowError, UsageError
from overpaint.pipeline.images import Picture, encode
from overpaint.pipeline.plan import Plan
from overpaint.pipeline.stage import Stage

HOW = """\
Edits of unseen papercut scenes, each in every kind that it can have: the true one, no edit,
another edit, more than was asked, done wrongly, half done, shifted by 2 to 4 px. Every kind but the
first is bad. AUC: the chance that a true edit scores above a bad one; the rows of a kind stand
beside all true ones. A form of pairs compares each failure with the true edit, and the true one
with no edit."""


def papercut_judge(form: str) -> Stage:
    """Returns papercut's own judge, in a form."""
    return Stage(operator=Judge(form=form, batch_size=8, max_prompt_tokens=176))


def judge_of(plan: Plan) -> Stage:
    """Returns the one stage of a plan that judges.

    Raises:
        UsageError: there is none, or there are several.
    """
    found = [stage for stage in plan.stages if isinstance(stage.operator, Judge)]
    if len(found) != 1:
        raise UsageError(f"recipe {plan.name!r}: it has {len(found)} stages that judge, not one")
    return found[0]


def measure_judge(
    stage: Stage, num_edits: int, seed: int = 0, edit_types: Sequence[EditType] = EDIT_TYPES
) -> Calibration:
    """Judges drawn edits of all kinds, and compares the scores with what they are.

    Args:
        stage: judge; what it reads and writes has the operator's own names here.
        num_edits: edits of each type, each in about seven kinds.
        seed: seed of the edits.
        edit_types: types of the edits.

    Raises:
        UsageError: the judge's model or form is not there.
        RowError: a row cannot be judged.
    """
    own = Stage(operator=stage.operator, name=stage.name)
    try:
        own.operator.check()
    except ValueError as error:
        raise UsageError(f"stage {stage.name!r}: {error}") from error
    pairs = [
        pair
        for edit_type in edit_types
        for drawn in sample_pairs(edit_type, num_edits, seed)
        for pair in drawn
    ]
    judged = _judged(own, pairs)
    rows = [_row(pair, row) for pair, row in zip(pairs, judged, strict=True)]
    return calibrate(rows, column="lmm_score", labels="kinds of drawn edits")


def _judged(stage: Stage, pairs: Sequence[JudgedPair]) -> Iterator[dict[str, Any]]:
    loaded = {stage.name: LoadedOperator.load(stage.operator)}
    size = max(32, stage.operator.batch_size)
    given = [_given(pair, number) for number, pair in enumerate(pairs)]
    for start in range(0, len(given), size):
        for row in run_stages([stage], loaded, given[start : start + size]).rows:
            if row.get("status"):
                raise RowError(row["error_code"], f"row {row['key']}: {row['error_message']}")
            yield row


def _given(pair: JudgedPair, number: int) -> dict[str, Any]:
    other = pair.source if pair.kind == GOOD else draw_pixels(pair.edit.target)
    return {
        "key": str(number),
        "source_uri": f"scene {number}",
        "source_image": encode(Picture(pair.source)),
        "edited_image": encode(Picture(pair.edited)),
        OTHER_IMAGE.name: encode(Picture(other)),
        "instruction": pair.edit.instruction,
        "target_prompt": pair.edit.target_prompt,
        "height_px": pair.source.shape[0],
        "width_px": pair.source.shape[1],
        "seed": number,
    }


def _row(pair: JudgedPair, judged: dict[str, Any]) -> JudgedRow:
    is_good = pair.kind == GOOD
    return JudgedRow(
        score=judged["lmm_score"],
        is_good=is_good,
        edit_type=pair.edit.edit_type,
        failure="" if is_good else pair.kind,
        orders_agree=judged.get("lmm_orders_agree"),
        status=judged["lmm_status"],
    )
