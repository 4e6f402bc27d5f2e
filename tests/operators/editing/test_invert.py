"""`invert`, on tiny checkpoints of the real classes."""

import pytest
import torch
from overpaint.operators.edit import Edit
from overpaint.operators.inversions import INVERSIONS
from overpaint.operators.invert import Invert

BATCH = 3
STEPS = 5


def make(checkpoint_of, checkpoint="StableDiffusionPipeline", **fields):
    given = {"batch_size": BATCH, "num_inference_steps": STEPS, **fields}
    return Invert(checkpoint=checkpoint_of(checkpoint), **given)


def path(answer):
    return answer["inverted_path"].trajectory_schw


def test_invert_keeps_the_whole_path(checkpoint_of, row):
    operator = make(checkpoint_of)
    operator.check()
    answer = operator.run([row(0)] * BATCH, operator.load())[0]
    assert path(answer).shape == (STEPS + 1, 4, 16, 16)
    assert answer["inverted_path"].num_inference_steps == STEPS
    assert answer["inverted_path"].identity == operator.revisions()["checkpoint"]


@pytest.mark.parametrize("method", INVERSIONS.names())
def test_invert_spends_what_its_inversion_states(method, checkpoint_of, row):
    operator = make(checkpoint_of, method=method)
    model = operator.load()
    before = model.spent.forward
    operator.run([row(number) for number in range(BATCH)], model)
    assert model.spent.forward - before == BATCH * operator.cost(row(0), {}).forward


def test_invert_row_depends_on_nothing_but_itself(checkpoint_of, row):
    operator = make(checkpoint_of)
    model = operator.load()
    rows = [row(number) for number in range(4)]
    alone = path(operator.run(rows[:1], model)[0])
    for batch, slot in (([0, 1, 2], 0), ([2, 1, 0], 2), ([3, 0, 2], 1)):
        together = operator.run([rows[number] for number in batch], model)
        assert torch.equal(path(together[slot]), alone)


def test_invert_prompt_is_the_source_prompt_else_the_caption(checkpoint_of, row):
    operator = make(checkpoint_of)
    rows = [
        row(0, source_prompt="a b", caption="c d"),
        row(0, source_prompt=None, caption="c d"),
        row(0, source_prompt=None, caption=None),
    ]
    prompts = [answer["inverted_path"].prompt for answer in operator.run(rows, operator.load())]
    assert prompts == ["a b", "c d", ""]


def test_invert_with_fixed_points_reproduces_the_source(checkpoint_of, row):
    from overpaint.operators.controls.guidance import ClassifierFree
    from overpaint.operators.diffusion import prompts as text
    from overpaint.operators.diffusion.sampling import Branch, Controls, denoise
    from overpaint.operators.diffusion.schedule import make_schedule

    errors = []
    for iterations in (0, 4):
        fields = {"method": "fixed_point", "num_fixed_point_iterations": iterations}
        operator = make(checkpoint_of, num_inference_steps=100, **(fields if iterations else {}))
        model = operator.load()
        answers = operator.run([row(number) for number in range(BATCH)], model)
        paths = torch.stack([path(answer) for answer in answers], dim=1)
        schedule = make_schedule(model.scheduler_config, 100)
        prompts = text.embed(model, [answer["inverted_path"].prompt for answer in answers])
        controls = Controls(guidance=ClassifierFree(guidance_scale=1.0))
        branches = {"text": Branch(prompts=prompts)}
        again = denoise(model, paths[0], schedule, schedule.steps, branches, controls)
        errors.append(float((again - paths[-1]).abs().max()))
    assert errors[1] < 0.1 * errors[0]


def test_invert_and_edit_share_the_model(checkpoint_of):
    operator = make(checkpoint_of)
    edit = Edit(checkpoint=operator.checkpoint)
    assert operator.load() is edit.load()[""]


@pytest.mark.parametrize(("fit", "bucket"), [("whole", (9, 7)), ("crop", None)])
def test_invert_bucket_is_the_shape(fit, bucket, checkpoint_of, row):
    operator = make(checkpoint_of, fit=fit)
    given = row(0, height=30, width=40)
    assert operator.bucket(given) == bucket
    frame = operator.run([given] * BATCH, operator.load())[0]["inverted_path"].frame
    assert frame.size == ((36, 28) if fit == "whole" else (32, 32))


def test_invert_unreadable_source_fails_alone(checkpoint_of, row):
    operator = make(checkpoint_of)
    rows = [row(0), row(1, source_image=b"no image")]
    answers = operator.run(rows, operator.load())
    assert answers[1].code == "image_unreadable"
    assert path(answers[0]).isfinite().all()


def test_invert_fp16_files_are_found(tmp_path, save_checkpoint, row):
    folder = save_checkpoint(tmp_path / "half", variant="fp16")
    operator = Invert(checkpoint=folder, batch_size=1, num_inference_steps=1)
    operator.check()
    assert operator.load().unet.dtype == torch.float32
    operator.run([row(0)], operator.load())


def test_invert_wrong_checkpoint_is_refused(checkpoint_of):
    with pytest.raises(ValueError, match="this takes a StableDiffusionPipeline"):
        make(checkpoint_of, "FluxKontextPipeline").check()


def test_invert_without_words_reads_none(checkpoint_of, row):
    operator = make(checkpoint_of, prompt="empty")
    assert {"source_prompt", "caption"}.isdisjoint(column.name for column in operator.optional)
    (answer,) = operator.run([row(0, caption="c d")], operator.load())
    assert answer["inverted_path"].prompt == ""
    (same,) = make(checkpoint_of).run([row(0, source_prompt=None)], operator.load())
    assert torch.equal(path(answer), path(same))
