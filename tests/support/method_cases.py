"""Every editing method on every kind of checkpoint that it takes, and what holds for each.

Nothing is listed by hand: methods are found by their modules, checkpoints and inversions by what a
method declares.
"""

import numpy as np
import pytest
from overpaint.operators.diffusion.pipeline_model import PipelineModel
from overpaint.operators.edit import Edit
from overpaint.operators.fit import Fit
from overpaint.operators.fits import FITS
from overpaint.operators.inversions import INVERSIONS
from overpaint.operators.invert import Invert
from overpaint.operators.methods import METHODS
from overpaint.pipeline.columns import Column
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.images import decode

BATCH = 3
STEPS = 4
CASES = [
    f"{method}-{pipeline}"
    for method in METHODS.names()
    for pipeline in METHODS.find(method).checkpoints
]
"""Method and pipeline."""


def _rest_is_slow(key):
    """The cases as parameters: the first of each key is quick, the others are slow tests."""
    keys = [key(*case.partition("-")) for case in CASES]
    return [
        pytest.param(case, marks=[pytest.mark.slow] if keys[place] in keys[:place] else [])
        for place, case in enumerate(CASES)
    ]


EACH_METHOD = _rest_is_slow(lambda method, _, pipeline: method)
"""All cases, the first of each method quick."""
EACH_PIPELINE = _rest_is_slow(
    lambda method, _, pipeline: method if method == "transformer" else pipeline
)
"""All cases, the first of each kind of checkpoint quick, and of the transformer editors."""


def make(case, checkpoint_of, **fields):
    """The edit of a case, with few steps; a method alone takes its first kind of checkpoint."""
    method, _, pipeline = case.partition("-")
    kind = METHODS.find(method)
    side_px = 64 if method == "transformer" else 32  # FLUX.2 takes no smaller picture
    small = {"num_inference_steps": STEPS, "n_pix_step": STEPS, "resolution": side_px}
    own = {name: value for name, value in small.items() if name in kind.model_fields}
    checkpoint = checkpoint_of(pipeline or kind.checkpoints[0])
    given = {"batch_size": BATCH, "checkpoint": checkpoint, **own, **fields}
    return Edit(method=method, **given)


def stages_before(edit, **fields):
    """The operators that give an edit what it needs of its actor, in order."""
    given = {"batch_size": BATCH, "checkpoint": edit.checkpoint}
    stages = []
    for need in edit.settings.needs:
        if isinstance(need, Column) and need.scope == "group":
            if method := _giving(INVERSIONS, need):
                own = {"num_inference_steps": STEPS, **fields}
                stages.append(Invert(method=method, **given, **own))
            else:
                fit = _giving(FITS, need)
                stages.append(Fit(method=fit, **given, **few_steps(fit)))
    return stages


def few_steps(fit):
    """Fields by which a fit optimises for a few steps only."""
    few = {"num_inner_steps": 2, "num_word_steps": 1}
    return {name: n for name, n in few.items() if name in FITS.find(fit).model_fields}


def _giving(catalogue, column):
    return next((n for n in catalogue.names() if column in catalogue.find(n).outputs), None)


def sources_of(operators):
    """The operator that writes each column."""
    return {column.name: operator for operator in operators for column in operator.outputs}


def ready(edit, rows, **fields):
    """Rows with what stages before an edit have added."""
    for operator in stages_before(edit, **fields):
        model = operator.load()
        answers = [operator.run([row], model)[0] for row in rows]
        rows = [{**row, **answer} for row, answer in zip(rows, answers, strict=True)]
    return rows


def pixels(answer):
    """The pixels of an edited image."""
    return decode(answer["edited_image"]).rgb


def check_rows_are_independent(operator, row):
    """A row's picture depends on the row alone: not on neighbours, slot or padding."""
    operator.check()
    model = operator.load()
    rows = ready(operator, [row(number) for number in range(4)])
    alone = operator.run(rows[:1], model)[0]
    for batch, slot in (([0, 1, 2], 0), ([2, 1, 0], 2), ([3, 0, 2], 1)):
        together = operator.run([rows[number] for number in batch], model)
        assert together[slot]["edited_image"] == alone["edited_image"]
    other = operator.run(rows[1:2], model)[0]
    assert other["edited_image"] != alone["edited_image"]


def check_cost(operator, row):
    """An edit spends the network evaluations that its method states, by every kind."""
    model = operator.load()
    editor = model[""]
    rows = ready(operator, [row(number) for number in range(BATCH)])
    sources = sources_of(stages_before(operator))
    editor.prompts.clear()
    getattr(editor, "sources", {}).clear()
    before = editor.spent.counts()
    operator.run(rows, model)
    after = editor.spent.counts()
    spent = {k: n - before.get(k, 0) for k, n in after.items() if n > before.get(k, 0)}
    # Prompts are embedded once an actor; the empty one is no row's, but where a pipeline takes it
    # for the negative prompt of a branch, which its cost states.
    assert spent.pop("text") == len(editor.prompts)
    stated = sum((operator.cost(row, sources) for row in rows), Cost()).counts()
    is_pipeline = isinstance(editor, PipelineModel)
    asked = [key for key in editor.prompts if is_pipeline or (key != "" and key[0] != "")]
    assert stated.pop("text", 0) == len(asked)
    assert spent == stated


def check_outside_is_the_source(operator, row):
    """Every pixel outside the mask that was editable is the source's own; inside some change."""
    rows = ready(operator, [row(number, height=40, width=33) for number in range(BATCH)])
    answers = operator.run(rows, operator.load())
    for before, answer in zip(rows, answers, strict=True):
        source = decode(before["source_image"]).rgb
        changed = np.any(pixels(answer) != source, axis=-1)
        stored = decode(answer["editable_mask_image"]).rgb[..., 0]
        # Feathering is of the picture alone: the stored mask is as sharp as the one given.
        assert set(np.unique(stored)) == {0, 255}
        editable = stored > 0
        # The mask is 10:20 x 8:16; one pixel of the picture is at most 1.3 of the source.
        assert changed[10:20, 8:16].any()
        assert editable[10:20, 8:16].all()
        assert not editable[:7].any()
        assert not editable[23:].any()
        assert not changed[~editable].any()
