"""Parts of training: attributes from pixels and captions, pairs, tokens, losses, metrics."""

import numpy as np
import pytest
import torch
from overpaint.jobs.papercut.draw import draw
from overpaint.jobs.papercut.scene import Background, Scene
from overpaint.jobs.training import pictures
from overpaint.jobs.training.cache import Cache
from overpaint.jobs.training.caption import attributes_of, build_caption
from overpaint.jobs.training.clip import build_clip
from overpaint.jobs.training.clipseg import iou
from overpaint.jobs.training.examples import (
    SINGLE_OBJECT,
    item_phrases,
    mask_example,
    mixture_scene,
    rgb,
)
from overpaint.jobs.training.instruction import sampling_weights
from overpaint.jobs.training.judge import (
    ANSWER_WORDS,
    MAX_TOKENS,
    auc,
    build_judge,
    edit_score,
    label_smoothing,
    parse_descriptions,
    parse_scores,
    score_token_ids,
)
from overpaint.jobs.training.judge_init import initialise_judge
from overpaint.jobs.training.pairs import sample_pair
from overpaint.jobs.training.pictures import psnr
from overpaint.jobs.training.sam import SamTrainingTask, build_sam, nonempty_masks
from overpaint.jobs.training.scene_reader import correct_attributes, read_scene
from overpaint.jobs.training.task import StepContext, TrainingConfig
from overpaint.jobs.training.vision_transfer import copy_blip_to_clip, copy_clip_to_blip
from overpaint.jobs.training.vocabulary import (
    bert_tokenizer,
    byte_pairs,
    chat_tokenizer,
    clip_tokenizer,
)
from PIL import Image, ImageFilter
from torch import nn
from torch.nn import functional
from transformers import CLIPTokenizer


def share_read_right(blur_px: float) -> float:
    right = []
    for index in range(10):
        scene = mixture_scene(index, split="test", mixture=SINGLE_OBJECT)
        image = draw(scene).filter(ImageFilter.GaussianBlur(blur_px))
        right.append(all(correct_attributes(scene, read_scene(rgb(image))).values()))
    return float(np.mean(right))


def test_read_scene_true_drawings_are_read_right() -> None:
    assert share_read_right(blur_px=0.0) >= 0.9


def test_read_scene_soft_drawings_are_mostly_read_right() -> None:
    assert share_read_right(blur_px=0.6) >= 0.8


def test_read_scene_empty_picture_has_no_thing() -> None:
    empty = Scene(background=Background(kind="dotted", tint="mint"))
    assert read_scene(rgb(draw(empty))) == (empty.background, None)


def test_read_scene_picture_unlike_any_drawing_is_read_as_something() -> None:
    assert read_scene(np.full((64, 64, 3), 255, np.uint8)).background.kind == "plain"


def test_attributes_of_captions_of_equal_things_are_equal() -> None:
    one = "a small red star on the left and an orange cup in the centre on an ice background"
    other = "an orange cup and a red star on an ice background"
    assert attributes_of(one) == attributes_of(other)


@pytest.mark.parametrize(
    "other",
    [
        "a red star on a mint background",
        "a blue star on an ice background",
        "a sketch of a red star on an ice background",
        "a red star and a red cup on an ice background",
        "a red star",
        "",
    ],
)
def test_attributes_of_captions_of_other_things_differ(other: str) -> None:
    assert attributes_of("a red star on an ice background") != attributes_of(other)


def test_sample_pair_true_edit_scores_high_and_a_missing_one_low() -> None:
    pairs = [sample_pair(index, split="train") for index in range(80)]
    by_outcome = {pair.outcome: pair for pair in pairs}
    assert edit_score(by_outcome["true"].answer) == 100
    assert edit_score(by_outcome["no-op"].answer) == 0
    assert edit_score(by_outcome["over-edited"].answer) < 50
    for pair in pairs:
        is_same = bool((pair.source == pair.edited).all())
        assert is_same == (pair.outcome == "no-op" and pair.finish == "clean")


def test_sample_pair_answer_says_what_both_images_show() -> None:
    pairs = [sample_pair(index, split="train") for index in range(40)]
    for pair in pairs:
        assert pair.answer.startswith(f"before: {pair.before} after: {pair.after} wanted: ")
        assert parse_descriptions(pair.answer) == (pair.before, pair.after, pair.wanted)
        if pair.outcome == "true":
            assert pair.after == pair.wanted
        if pair.outcome == "no-op":
            assert pair.before == pair.after
    assert any(pair.before != pair.after for pair in pairs)
    assert parse_descriptions("accuracy: 3") == ("", "", "")


def test_item_phrases_tell_the_item_apart() -> None:
    for index in range(60):
        scene = mixture_scene(index, split="train")
        names = [set(item_phrases(scene, item)) for item in range(len(scene.things))]
        assert len(set().union(*names)) == sum(len(own) for own in names)


def test_clip_tokenizer_words_are_single_tokens_and_unknown_words_fall_to_pieces() -> None:
    words = ["accuracy", "acacia", "ac", "racy", "stars", "star"]
    tokenizer: CLIPTokenizer = clip_tokenizer(words)
    assert [len(tokenizer.tokenize(word)) for word in words] == [1] * len(words)
    assert len(tokenizer.tokenize("zebra")) == 5
    assert tokenizer.model_max_length == 32


def test_byte_pairs_are_the_same_for_the_same_words() -> None:
    assert byte_pairs(["red", "star"], ["<s>"]) == byte_pairs(["red", "star"], ["<s>"])


def test_judge_answer_is_read_back() -> None:
    answer = "accuracy: 9 preservation: 10 quality: 8 realism: 7"
    assert parse_scores(answer) == {"accuracy": 9, "preservation": 10, "quality": 8, "realism": 7}
    assert edit_score("no idea") == 0


def test_label_smoothing_of_scores_falls_with_their_distance() -> None:
    tokenizer = chat_tokenizer(["star", *ANSWER_WORDS], max_tokens=32)
    table, tokens = label_smoothing(tokenizer), score_token_ids(tokenizer)
    assert table.sum(1).numpy() == pytest.approx(1.0)
    in_order = table[tokens[10], tokens].tolist()
    assert in_order == sorted(in_order)
    star = tokenizer.encode("star", add_special_tokens=False)[0]
    assert table[star, star] == 1.0


def test_initialise_judge_attends_to_the_same_patch_of_the_source() -> None:
    torch.manual_seed(0)
    tokenizer = chat_tokenizer(["star", *ANSWER_WORDS], max_tokens=MAX_TOKENS)
    judge = build_judge(tokenizer)
    caption = build_caption(bert_tokenizer(["star"]))
    scenes = [mixture_scene(index, split="train") for index in range(8)]
    initialise_judge(
        judge, caption, pictures.to_tensor(np.stack([rgb(draw(scene)) for scene in scenes]))
    )
    judge.set_attn_implementation("eager")
    image = tokenizer.encode("<image>", add_special_tokens=False) * 64
    tokens = torch.tensor([[tokenizer.bos_token_id, *image, *image]])
    pixels = pictures.to_tensor(np.stack([rgb(draw(scenes[0]))] * 2))
    seen = judge(input_ids=tokens, pixel_values=pixels, output_attentions=True)
    edited = torch.arange(65, 129)
    assert seen.attentions[0][0, 0, edited, edited - 64].mean() > 0.5


def test_vision_transformer_copied_to_the_other_class_keeps_its_features() -> None:
    torch.manual_seed(0)
    clip = build_clip(clip_tokenizer(["star"])).vision_model.eval()
    again = build_clip(clip_tokenizer(["star"])).vision_model.eval()
    blip = build_caption(bert_tokenizer(["star"])).vision_model.eval()
    scenes = [mixture_scene(index, split="train") for index in range(16)]
    images = pictures.to_tensor(np.stack([rgb(draw(scene)) for scene in scenes]))
    torch.nn.init.normal_(clip.embeddings.class_embedding)
    copy_clip_to_blip(blip, clip, images)
    assert agreement(blip_features(blip, images), clip(images).last_hidden_state) > 0.95
    torch.nn.init.normal_(blip.embeddings.patch_embedding.bias)
    copy_blip_to_clip(again, blip, images)
    assert agreement(again(images).last_hidden_state, blip_features(blip, images)) > 0.95


def blip_features(blip: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Returns BLIP's features before its last layer norm, which CLIP does not have."""
    return blip.encoder(inputs_embeds=blip.embeddings(images)).last_hidden_state


def agreement(one: torch.Tensor, other: torch.Tensor) -> float:
    """Returns the mean cosine similarity of the features at the position where it is lowest."""
    return float(functional.cosine_similarity(one, other, dim=-1).mean(0).min().detach())


def test_sampling_weights_are_a_distribution_that_favours_slowly_learned_types() -> None:
    edits = Cache(arrays={}, texts=[{"edit_type": name} for name in ("color", "move", "color")])
    first, second, third = sampling_weights(edits)
    assert first + second + third == pytest.approx(1.0)
    assert second > first == third


def test_sam_learns_from_a_box_and_from_points_inside_and_outside_in_every_step() -> None:
    scenes = [mask_example(index, split="train") for index in range(8)]
    arrays = {
        name: np.stack([scene.arrays[name] for scene in scenes]) for name in ("image", "mask")
    }
    drawn = Cache(arrays=arrays, texts=[{} for _ in scenes])
    torch.manual_seed(0)
    task = SamTrainingTask(
        sam=build_sam(),
        train=drawn,
        test=drawn,
        nonempty=nonempty_masks(drawn),
        config=TrainingConfig(),
    )
    context = StepContext(0, 0.0, np.random.default_rng(0), torch.device("cpu"))
    task.loss(context).backward()
    # The first two stand for points outside and inside, the others for the corners of a box.
    learned = [part.weight.grad for part in task.sam.prompt_encoder.point_embed]
    assert [bool(gradient.abs().sum() > 0) for gradient in learned] == [True] * 4


def test_sample_batch_draws_candidates_only_and_returns_images_and_masks_of_them() -> None:
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    masks = np.where(np.arange(10) % 2, 255, 0).astype(np.uint8)[:, None, None]
    cache = Cache(arrays={"image": images, "mask": masks}, texts=[{} for _ in images])
    context = StepContext(0, 0.0, np.random.default_rng(0), torch.device("cpu"))
    odd = np.arange(1, 10, 2)
    batch = context.sample_batch(cache, 64, candidates=odd, weights=np.eye(5)[2] / 2 + 0.1)
    assert set(batch.indices) == set(odd)
    assert list(batch.indices) == sorted(batch.indices)
    assert (batch.indices == 5).sum() > 64 // 3
    shades = (batch.images()[:, 0, 0, 0] + 1) * 127.5
    assert shades.numpy() == pytest.approx(batch.indices, abs=1e-3)
    assert batch.masks().all()


def test_auc_counts_ties_as_half() -> None:
    assert auc([1.0, 1.0], [True, False]) == 0.5
    assert auc([2.0, 1.0, 0.0], [True, False, False]) == 1.0


def test_iou_of_empty_masks_is_one() -> None:
    empty, full = np.zeros((1, 4, 4), bool), np.ones((1, 4, 4), bool)
    assert iou(empty, empty)[0] == 1.0
    assert iou(empty, full)[0] == 0.0


def test_psnr_one_level_off_is_48_db() -> None:
    image = np.asarray(Image.new("RGB", (4, 4), (10, 10, 10)))[None]
    assert psnr(image, image + np.uint8(1))[0] == pytest.approx(48.13, abs=0.01)
