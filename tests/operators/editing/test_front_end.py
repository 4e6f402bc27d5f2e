"""PRedItOR and ReDiffuser, beside straight transcriptions; task labels of instruction editors."""

import pytest
import torch
from method_batches import batch_of, clean
from method_cases import ready
from overpaint.operators.controls.attention_maps import RecordCrossAttention
from overpaint.operators.diffusion import latents as pictures
from overpaint.operators.diffusion.schedule import make_schedule
from overpaint.operators.diffusion.task_labels import TaskLabels, class_labels
from overpaint.operators.edit import Edit
from overpaint.pipeline.columns import EDIT_TYPE
from overpaint.pipeline.edit_types import EDIT_TYPES

KANDINSKY = "KandinskyV22CombinedPipeline"


def close(ours, theirs):
    assert torch.allclose(ours, theirs, atol=1e-4), (ours - theirs).abs().max()


def preditor(checkpoint_of, **fields):
    given = {"num_inference_steps": 4, "num_prior_steps": 10, "resolution": 32, **fields}
    return Edit(method="preditor", checkpoint=checkpoint_of(KANDINSKY), batch_size=1, **given)


def request_of(edit, row, number=0):
    model = edit.load()
    return edit.prepare(row(number, mask_image=None), model).request, model[""]


def test_preditor_embedding_is_sdedit_by_the_prior(checkpoint_of, row):
    edit = preditor(checkpoint_of)
    request, model = request_of(edit, row)
    source = model.embed_images([request.picture])
    ours = edit.settings.edited_embeddings(source, [request], model)
    prior, scheduler = model.parts.prior_prior, model.parts.prior_scheduler
    generator = torch.Generator().manual_seed(request.seed)
    scheduler.set_timesteps(10)
    times = [int(t) for t in scheduler.timesteps][-3:]
    levels = scheduler.alphas_cumprod
    z = (source - prior.clip_mean) / prior.clip_std
    first = levels[times[0]]
    z = first**0.5 * z + (1 - first) ** 0.5 * torch.randn(1, 16, generator=generator)
    for t, later in zip(times, [*times[1:], -1], strict=True):
        said = {}
        for text in (request.prompt, ""):
            embedded = model.embed_prompt(text)
            said[text] = prior(z, t, *embedded[:2], embedded[2]).predicted_image_embedding
        x0 = (said[""] + 4.0 * (said[request.prompt] - said[""])).clamp(-5, 5)
        # The last step of UnCLIP goes from its timestep to the one before.
        here = levels[t]
        there = levels[later] if later >= 0 else torch.tensor(1.0)
        ratio = here / there
        mean = there**0.5 * (1 - ratio) / (1 - here) * x0
        mean = mean + ratio**0.5 * (1 - there) / (1 - here) * z
        spread = ((1 - there) / (1 - here) * (1 - ratio)).clamp(min=1e-20) ** 0.5
        z = mean + (spread * torch.randn(1, 16, generator=generator) if t > 0 else 0)
    close(ours, z * prior.clip_std + prior.clip_mean)


def test_preditor_redraws_the_inverted_source_by_the_edited_embedding(checkpoint_of, row):
    edit = preditor(checkpoint_of, strength=0.5, guidance_scale=3.0)
    request, model = request_of(edit, row)
    (ours,) = edit.settings.edit([request], model)
    source = model.embed_images([request.picture])
    target = edit.settings.edited_embeddings(source, [request], model)
    unet, movq = model.parts.unet, model.parts.movq

    def eps(x, t, embedding):
        added = {"image_embeds": embedding}
        return unet(x, t, encoder_hidden_states=None, added_cond_kwargs=added).sample[:, :4]

    steps = make_schedule(model.parts.scheduler.config, 4).steps[2:]
    with torch.no_grad():
        x = movq.encode(pictures.to_tensor([request.picture], model.device)).latents
        for step in reversed(steps):
            e = eps(x, step.timestep, source)
            x0 = clean(x, e, step.alpha_bar_next)
            x = step.alpha_bar**0.5 * x0 + (1 - step.alpha_bar) ** 0.5 * e
        for step in steps:
            empty = eps(x, step.timestep, model.no_image_1d)
            e = empty + 3.0 * (eps(x, step.timestep, target) - empty)
            x0 = clean(x, e, step.alpha_bar)
            x = step.alpha_bar_next**0.5 * x0 + (1 - step.alpha_bar_next) ** 0.5 * e
        image = movq.decode(x, force_not_quantize=True).sample
    expected = pictures.to_pictures(image)[0]
    assert abs(ours - expected).max() < 1e-2


def test_preditor_is_refused_for_other_checkpoints(checkpoint_of):
    with pytest.raises(ValueError, match="is a StableDiffusionPipeline: this takes a Kandinsky"):
        Edit(method="preditor", checkpoint=checkpoint_of("StableDiffusionPipeline")).check()
    with pytest.raises(ValueError, match="papercut has none"):
        Edit(method="preditor").check()


def rediffuser(checkpoint_of, **fields):
    checkpoint = checkpoint_of("StableDiffusionPipeline")
    return Edit(method="rediffuser", checkpoint=checkpoint, batch_size=1, **fields)


def prepared(edit, row, **columns):
    return batch_of(edit, ready(edit, [row(0, mask_image=None, **columns)]))


def cross_maps(batch, x, step, prompts):
    """Each layer's cross-attention maps of a prediction, with their graph."""
    record = RecordCrossAttention(branch="asked")
    batch.predict(x, step, {"asked": prompts}, record.edits)
    return record.maps


def test_rediffuser_brings_the_maps_of_both_runs_together(checkpoint_of, row):
    fields = {"guidance_scale": 2.0, "strength": 0.5, "cross_attention_guidance_amount": 3.0}
    edit = rediffuser(checkpoint_of, **fields)
    batch = prepared(edit, row)
    ours = edit.settings.edited(batch)
    text = batch.prompts([batch.requests[0].prompt])
    source, empty = batch.prompts(batch.source_prompts()), batch.negative_prompts("")
    z = r = batch.trajectory_sbchw[batch.steps[0].index]
    for step in batch.steps:
        with torch.enable_grad():
            z, r = z.detach().requires_grad_(), r.detach().requires_grad_()
            one, other = (cross_maps(batch, *a) for a in ((z, step, text), (r, step, source)))
            loss = sum((one[k] - other[k]).square().sum() / one[k].shape[1] for k in one)
            by_z, by_r = torch.autograd.grad(loss, (z, r))
        z, r = z.detach() - 3.0 * by_z, r.detach() - 3.0 * by_r
        moved = []
        for x, prompts in ((z, text), (r, source)):
            said = batch.predict(x, step, {"asked": prompts, "empty": empty})
            e = said["empty"] + 2.0 * (said["asked"] - said["empty"])
            x0 = clean(x, e, step.alpha_bar)
            moved.append(step.alpha_bar_next**0.5 * x0 + (1 - step.alpha_bar_next) ** 0.5 * e)
        z, r = moved
    close(ours, z)


def test_rediffuser_update_of_the_edit_alone_costs_half_the_backward_passes(checkpoint_of):
    both, alone = (
        rediffuser(checkpoint_of, cooperative_update=value).settings.cost(8)
        for value in (True, False)
    )
    assert (both.backward, alone.backward) == (16, 8)
    assert both.forward == alone.forward


def test_rediffuser_with_the_sources_own_prompt_draws_the_source(checkpoint_of, row):
    edit = rediffuser(checkpoint_of, guidance_scale=1.0)
    batch = prepared(edit, row, target_prompt="source a", source_prompt="source a")
    # Equal prompts have equal maps: nothing descends, and both runs are the regeneration.
    edited = edit.settings.edited(batch)
    plain = rediffuser(
        checkpoint_of, guidance_scale=1.0, cross_attention_guidance_amount=0.0
    ).settings.edited(batch)
    close(edited, plain)


def test_label_of_each_row_is_that_of_its_edit_type_and_only_the_text_branch_is_told(
    checkpoint_of, row
):
    checkpoint = checkpoint_of("StableDiffusionInstructPix2PixPipeline")
    plain = Edit(method="instruct_pix2pix", checkpoint=checkpoint, batch_size=3)
    told = Edit(method="instruct_pix2pix", checkpoint=checkpoint, batch_size=3, task_labels=True)
    assert EDIT_TYPE not in plain.optional
    assert EDIT_TYPE in told.optional
    types = ("add", "viewpoint", "no such type")
    rows = [row(number, edit_type=kind) for number, kind in enumerate(types)]
    sampling = told.settings.sampling(batch_of(told, rows))
    assert sampling.branches["text"].task_label == [1, 12, 0]
    assert sampling.branches["image"].task_label == sampling.branches["negative"].task_label == 0
    assert plain.settings.sampling(batch_of(plain, rows)).branches["text"].task_label == [0, 0, 0]
    with pytest.raises(ValueError, match="has no task labels: leave task_labels out"):
        told.check()


def test_labels_are_told_by_branch_or_by_row():
    unet = type("UNet", (), {"class_embedding": TaskLabels(4, 2), "device": "cpu"})
    assert class_labels(unet, [3, [1, 2]], 2).tolist() == [3, 3, 1, 2]


def test_edit_types_keep_the_places_by_which_checkpoints_label_them():
    first = ("add", "remove", "replace", "background", "expression", "color")
    assert (*first, "texture", "style", "move", "resize", "pose", "viewpoint") == EDIT_TYPES
