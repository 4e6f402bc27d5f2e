"""`invert`, on tiny checkpoints of the real classes."""

import pytest
import torch
from overpaint.operators.edit import Edit
from overpaint.operators.invert import Invert
from running import failure_code

BATCH = 3
STEPS = 5


def make(checkpoint_of, checkpoint="sd", **fields):
    given = {"batch_size": BATCH, "num_inference_steps": STEPS, **fields}
    return Invert(checkpoint=checkpoint_of(checkpoint), **given)


def path(answer):
    return answer["inversion"].path_scyx


def test_invert_keeps_the_whole_path(checkpoint_of, row):
    operator = make(checkpoint_of)
    operator.check()
    answer = operator.run([row(0)] * BATCH, operator.load())[0]
    assert path(answer).shape == (STEPS + 1, 4, 16, 16)
    assert answer["inversion"].num_inference_steps == STEPS
    assert answer["inversion"].identity == operator.revisions()["checkpoint"]


@pytest.mark.parametrize("iterations", [0, 2])
def test_invert_evaluations_are_one_a_step_and_iteration(iterations, checkpoint_of, row):
    operator = make(checkpoint_of, num_fixed_point_iterations=iterations)
    model = operator.load()
    before = model.num_evaluations
    operator.run([row(number) for number in range(BATCH)], model)
    assert model.num_evaluations - before == BATCH * STEPS * (1 + iterations)


def test_invert_row_depends_on_nothing_but_itself(checkpoint_of, row, padded):
    operator = make(checkpoint_of)
    model = operator.load()
    rows = [row(number) for number in range(4)]
    alone = path(padded(operator, rows[:1], model)[0])
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
    prompts = [answer["inversion"].prompt for answer in operator.run(rows, operator.load())]
    assert prompts == ["a b", "c d", ""]


def test_invert_with_fixed_points_reproduces_the_source(checkpoint_of, row):
    from overpaint.operators.controls.guidance import ClassifierFree
    from overpaint.operators.diffusion import prompts as text
    from overpaint.operators.diffusion.sampling import Branch, Controls, denoise
    from overpaint.operators.diffusion.schedule import make_schedule

    errors = []
    for iterations in (0, 4):
        fields = {"num_inference_steps": 100, "num_fixed_point_iterations": iterations}
        operator = make(checkpoint_of, **fields)
        model = operator.load()
        answers = operator.run([row(number) for number in range(BATCH)], model)
        paths = torch.stack([path(answer) for answer in answers], dim=1)
        schedule = make_schedule(model.scheduler_config, 100)
        prompts = text.embed(model, [answer["inversion"].prompt for answer in answers])
        controls = Controls(guidance=ClassifierFree(guidance_scale=1.0))
        branches = {"text": Branch(condition=prompts)}
        again = denoise(model, paths[0], schedule, schedule.steps, branches, controls)
        errors.append(float((again - paths[-1]).abs().max()))
        print(errors)
    assert errors[1] < 0.1 * errors[0]


def test_invert_and_edit_share_the_model(checkpoint_of):
    operator = make(checkpoint_of)
    edit = Edit(checkpoint=operator.checkpoint)
    assert operator.load() is edit.load()


@pytest.mark.parametrize(("fit", "bucket"), [("whole", (9, 7)), ("crop", None)])
def test_invert_bucket_is_the_shape(fit, bucket, checkpoint_of, row):
    operator = make(checkpoint_of, fit=fit)
    given = row(0, height=30, width=40)
    assert operator.bucket(given) == bucket
    frame = operator.run([given] * BATCH, operator.load())[0]["inversion"].frame
    assert frame.size == ((36, 28) if fit == "whole" else (32, 32))


def test_invert_unreadable_source_fails(checkpoint_of, row):
    operator = make(checkpoint_of)
    assert failure_code(operator, row(0, source_image=b"no image")) == "image_unreadable"


def test_invert_fp16_files_are_found(tmp_path, save_checkpoint, row):
    folder = save_checkpoint(tmp_path / "half", variant="fp16")
    operator = Invert(checkpoint=folder, batch_size=1, num_inference_steps=1)
    operator.check()
    assert operator.load().unet.dtype == torch.float32
    operator.run([row(0)], operator.load())


def test_invert_wrong_checkpoint_is_refused(checkpoint_of):
    with pytest.raises(ValueError, match="this takes a StableDiffusionPipeline"):
        make(checkpoint_of, "kontext").check()
