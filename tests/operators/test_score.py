import numpy as np
import pytest
from overpaint.operators.measures import preservation
from overpaint.operators.measures.preservation import measure
from overpaint.operators.models.clip import similarity
from overpaint.operators.score import Score
from overpaint.pipeline.images import Picture, encode, encode_mask, shrink_factor
from PIL import Image
from running import failure_code, outcomes
from shared_tokenizers import ODD_TEXTS, texts_around
from skimage.metrics import structural_similarity
from transformers import CLIPTokenizer

SIMILARITIES = ("clip_sim_source", "clip_sim_target", "clip_sim_dir", "clip_sim_image")


def pixels(seed: int, width: int = 48, height: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def row(source: np.ndarray, edited: np.ndarray, mask: np.ndarray | None = None, **words) -> dict:
    found = {"source_image": encode(Picture(source)), "edited_image": encode(Picture(edited))}
    return {**found, **({} if mask is None else {"mask_image": encode_mask(mask)}), **words}


def scores(operator: Score, rows: list[dict]) -> list[dict]:
    return outcomes(operator, rows)


def half_mask(width: int = 48, height: int = 40) -> np.ndarray:
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[:, : width // 2] = 255
    return mask


def test_values_wrap_in_no_direction():
    dark, bright = np.full((8, 8, 3), 10, np.uint8), np.full((8, 8, 3), 12, np.uint8)
    assert measure(dark, bright, None).mean == pytest.approx(2 / 255)
    assert measure(bright, dark, None).mean == pytest.approx(2 / 255)


def test_change_share_counts_pixels_that_differ_by_more_than_eight():
    source = np.full((10, 10, 3), 100, np.uint8)
    edited = source.copy()
    edited[0, :, 1] = 109
    edited[1, :, 1] = 108
    assert measure(source, edited, None).share == pytest.approx(0.1)


def test_background_is_measured_outside_the_mask_alone():
    source = pixels(1)
    edited = source.copy()
    edited[:, :24] = pixels(2)[:, :24]
    change = measure(source, edited, half_mask())
    assert change.background_psnr_db == 100
    assert change.background_mse == 0
    assert change.background_ssim == pytest.approx(1)
    assert change.locality == 1


def test_background_error_does_not_depend_on_the_size_of_the_mask():
    source = np.full((40, 40, 3), 100, np.uint8)
    edited = source + np.uint8(10)
    for columns in (4, 36):
        mask = np.zeros((40, 40), np.uint8)
        mask[:, :columns] = 255
        change = measure(source, edited, mask)
        assert change.background_mse == pytest.approx((10 / 255) ** 2)
        assert change.background_psnr_db == pytest.approx(20 * np.log10(255 / 10))
        assert change.locality == pytest.approx(columns / 40)


def test_full_mask_and_no_mask_leave_no_background():
    source, edited = pixels(1), pixels(2)
    for mask in (np.full((40, 48), 255, np.uint8), None):
        change = measure(source, edited, mask)
        assert change.background_mse is change.background_psnr_db is change.background_ssim is None


def test_empty_mask_is_all_background_and_ssim_is_that_of_skimage():
    source, edited = pixels(1, 70, 601), pixels(2, 70, 601)
    mask = np.zeros((601, 70), np.uint8)
    expected = structural_similarity(
        source / 255, edited / 255, data_range=1.0, channel_axis=2, full=True
    )[1].mean()
    change = measure(source, edited, mask)
    assert change.background_ssim == pytest.approx(expected, abs=1e-12)
    assert change.locality == 0


@pytest.mark.parametrize("height", [257, 259, 262, 512])
def test_ssim_does_not_depend_on_where_strips_end(height):
    source, edited = pixels(3, 20, height), pixels(4, 20, height)
    mask = np.zeros((height, 20), np.uint8)
    expected = structural_similarity(
        source / 255, edited / 255, data_range=1.0, channel_axis=2, full=True
    )[1].mean()
    assert measure(source, edited, mask).background_ssim == pytest.approx(expected, abs=1e-12)


def test_unchanged_image_has_no_locality_and_tiny_image_no_ssim():
    source = pixels(1, 5, 5)
    change = measure(source, source, np.zeros((5, 5), np.uint8))
    assert change.locality is None
    assert change.background_ssim is None
    assert change.background_psnr_db == preservation.MOST_PSNR_DB


def test_similarity_is_the_cosine_and_nothing_has_none():
    assert similarity(np.array([1.0, 0.0]), np.array([2.0, 0.0])) == pytest.approx(1)
    assert similarity(np.array([1.0, 0.0]), np.array([0.0, 3.0])) == pytest.approx(0)
    assert similarity(np.zeros(2), np.ones(2)) is None


def test_similarities_are_cosines_of_the_models_own_embeddings(clip):
    import torch
    from PIL import Image
    from transformers import CLIPModel, CLIPProcessor

    source, edited = pixels(1, 32, 32), pixels(2, 32, 32)
    words = {"source_prompt": "a red circle", "target_prompt": "a blue square"}
    (found,) = scores(Score(checkpoint=clip), [row(source, edited, **words)])
    model, processor = CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)
    inputs = processor(
        images=[Image.fromarray(source), Image.fromarray(edited)],
        text=list(words.values()),
        return_tensors="pt",
        padding=True,
    )
    with torch.inference_mode():
        answer = model(**inputs)
    images, texts = answer.image_embeds, answer.text_embeds
    direction = torch.cosine_similarity(images[1] - images[0], texts[1] - texts[0], dim=0)
    expected = [images[0] @ texts[0], images[1] @ texts[1], direction, images[0] @ images[1]]
    assert [found[name] for name in SIMILARITIES] == pytest.approx(
        [float(value) for value in expected], abs=1e-5
    )


def test_caption_and_instruction_serve_where_prompts_are_missing(clip):
    source, edited = pixels(1), pixels(2)
    prompts = row(source, edited, source_prompt="red", target_prompt="blue", instruction="no")
    others = row(source, edited, source_prompt=None, caption="red", instruction="blue")
    one, two = scores(Score(checkpoint=clip), [prompts, others])
    assert one == two


def test_missing_prompts_and_equal_images_have_no_score(clip):
    same = pixels(1)
    rows = [
        row(same, pixels(2), source_prompt="red"),
        row(same, pixels(2), instruction="blue"),
        row(same, same, source_prompt="red", target_prompt="blue"),
        row(same, pixels(2), source_prompt="red", target_prompt="red"),
    ]
    found = scores(Score(checkpoint=clip), rows)
    missing = [{name for name in SIMILARITIES if answer[name] is None} for answer in found]
    assert missing == [
        {"clip_sim_target", "clip_sim_dir"},
        {"clip_sim_source", "clip_sim_dir"},
        {"clip_sim_dir"},
        {"clip_sim_dir"},
    ]
    assert found[2]["clip_sim_image"] == pytest.approx(1)


def test_scores_of_a_row_do_not_depend_on_its_neighbours(clip):
    words = {"source_prompt": "red circle", "target_prompt": "blue"}
    one = row(pixels(1), pixels(2), half_mask(), **words)
    other = row(
        pixels(3, 90, 30), pixels(4, 90, 30), source_prompt="many more words than the others"
    )
    operator = Score(checkpoint=clip, batch_size=3)
    assert scores(operator, [one, other, other])[0] == scores(operator, [other, one, one])[2]


def test_outside_is_measured_outside_the_mask_that_was_editable():
    operator = Score(use_clip=False)
    source = pixels(1)
    edited = source.copy()
    edited[:, :30] = pixels(2)[:, :30]
    editable = np.zeros((40, 48), np.uint8)
    editable[:, :30] = 255
    asked = row(source, edited, half_mask())
    dilated = {**asked, "editable_mask_image": encode_mask(editable)}
    without = {**asked, "editable_mask_image": None}
    first, second, third = scores(operator, [asked, dilated, without])
    assert first["background_psnr_db"] < 40
    assert second["background_psnr_db"] == 100
    assert third == first


def test_edited_image_of_another_size_fails_with_a_code():
    wrong = row(pixels(1), pixels(1, 24, 20))
    assert failure_code(Score(use_clip=False), wrong) == "edited_size"


def test_without_clip_only_pixels_are_measured_and_nothing_is_loaded():
    operator = Score(use_clip=False)
    operator.check()
    (found,) = scores(operator, [row(pixels(1), pixels(2), half_mask())])
    assert set(found) == {column.name for column in operator.outputs}
    assert not set(found) & set(SIMILARITIES)
    assert operator.revisions() == {}


def test_ssim_of_a_large_picture_is_that_of_the_reduced_one(monkeypatch):
    source, edited = pixels(1, 200, 150), pixels(2, 200, 150)
    mask = np.zeros((150, 200), np.uint8)
    whole = measure(source, edited, mask)
    reduced = [Image.fromarray(one).reduce(3) for one in (source, edited)]
    expected = measure(*map(np.asarray, reduced), mask[::3, ::3])
    monkeypatch.setattr("overpaint.pipeline.images.picture.LARGE_PX", 200 * 150 / 9)
    found = measure(source, edited, mask)
    assert found.background_ssim == pytest.approx(expected.background_ssim, abs=1e-12)
    assert found.background_ssim != pytest.approx(whole.background_ssim, abs=1e-3)
    assert found.background_mse == whole.background_mse
    assert found.mean == whole.mean


def test_picture_of_24_million_pixels_is_measured_as_it_is():
    assert shrink_factor(6000, 4000) == 1
    assert shrink_factor(6001, 4000) == 2
    assert shrink_factor(12_000, 9_000) == 3


def test_tokens_of_the_prompts_that_clip_does_not_see_are_counted(clip):
    tokens = CLIPTokenizer.from_pretrained(clip)
    seen = tokens.model_max_length
    prompts = [*texts_around(seen), *ODD_TEXTS, None]
    assert len(prompts) > 40
    images, operator = (pixels(1), pixels(2)), Score(checkpoint=clip, batch_size=len(prompts))
    expected = [max(0, len(tokens(text or "")["input_ids"]) - seen) for text in prompts]
    for name, other in (("target_prompt", "source_prompt"), ("source_prompt", "target_prompt")):
        rows = [row(*images, **{name: text, other: "red"}) for text in prompts]
        assert [one["clip_prompt_tokens_cut"] for one in scores(operator, rows)] == expected


def test_blank_prompts_are_missing_ones(clip):
    images = (pixels(1), pixels(2))
    for blank in ("", " ", "\t\n", "\u3000"):
        words = {"source_prompt": blank, "caption": "red", "target_prompt": blank}
        one, other, third, fourth = scores(
            Score(checkpoint=clip),
            [
                row(*images, **words, instruction="blue"),
                row(*images, caption="red", instruction="blue"),
                row(*images, **(words | {"caption": blank})),
                row(*images),
            ],
        )
        assert one == other
        assert third == fourth
        assert third["clip_sim_target"] is None


def test_without_clip_nothing_is_said_of_its_prompts():
    (measured,) = scores(Score(use_clip=False), [row(pixels(1), pixels(2))])
    assert "clip_prompt_tokens_cut" not in measured
