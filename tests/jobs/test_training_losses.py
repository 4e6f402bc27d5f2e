"""Losses: they are those of the models' own forward passes, and learn from what they should."""

import numpy as np
import pytest
import torch
from overpaint.jobs.papercut.words import LEXICON
from overpaint.jobs.training import losses, sam_loss
from overpaint.jobs.training.cache import Cache
from overpaint.jobs.training.clip import build_clip
from overpaint.jobs.training.instruction import build_edit_scheduler
from overpaint.jobs.training.judge import (
    ANSWER_WORDS,
    MAX_TOKENS,
    answer_tokens,
    build_judge,
    build_processor,
    tokenize_answers,
)
from overpaint.jobs.training.judge_loss import SCORE_WEIGHT, PairBatch, judge_loss
from overpaint.jobs.training.pairs import pair_example
from overpaint.jobs.training.text_to_image import build_scheduler
from overpaint.jobs.training.vae import build_vae
from overpaint.jobs.training.vocabulary import chat_tokenizer, clip_tokenizer, token_table
from overpaint.operators.framing.masks import bounding_box
from torch.nn import functional

CPU = torch.device("cpu")


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_noise_is_that_of_the_pipelines_scheduler(zero_terminal_snr: bool) -> None:
    scheduler = build_edit_scheduler() if zero_terminal_snr else build_scheduler()
    alphas = losses.alphas_cumprod(zero_terminal_snr=zero_terminal_snr)
    assert torch.allclose(alphas, scheduler.alphas_cumprod, atol=1e-6)
    torch.manual_seed(0)
    latents = torch.randn(64, 4, 16, 16)
    noised = losses.add_noise(latents, alphas)
    arguments = (latents, noised.noise, noised.timesteps)
    assert torch.allclose(noised.latents, scheduler.add_noise(*arguments), atol=1e-3)
    assert torch.allclose(noised.velocity(latents), scheduler.get_velocity(*arguments), atol=1e-3)


def test_vae_loss_is_that_of_the_models_own_posterior() -> None:
    torch.manual_seed(0)
    vae = build_vae((8, 16))
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.manual_seed(1)
    loss = losses.vae_loss(vae, images)
    torch.manual_seed(1)
    posterior = vae.encode(images).latent_dist
    latents = posterior.sample()
    true = losses.reconstruction_loss(vae.decode(latents).sample, images)
    true = true + 1e-4 * posterior.kl().mean() / latents[0].numel()
    assert loss.item() == pytest.approx(true.item(), rel=1e-5)


def test_mirrored_flips_half_of_the_images() -> None:
    torch.manual_seed(0)
    images = torch.arange(4.0).expand(400, 3, 4, 4)
    is_flipped = losses.mirrored(images)[:, 0, 0, 0] == 3
    assert 150 < int(is_flipped.sum()) < 250
    assert torch.equal(losses.mirrored(images).sum(3), images.sum(3))


def test_plain_share_rises_at_the_end() -> None:
    shares = [losses.plain_share(progress) for progress in (0.0, 0.8, 0.86, 0.9, 1.0)]
    assert shares == [0.0, 0.0, pytest.approx(0.5), 1.0, 1.0]


def test_change_weights_give_half_to_the_change_whatever_its_size() -> None:
    source = torch.zeros(2, 4, 16, 16)
    target = source.clone()
    target[0, 1, :4, :4] = 1.0
    target[1, :, :15] = -1.0
    weights = losses.change_weights(source, target)
    assert weights.mean(dim=(1, 2, 3)).tolist() == pytest.approx([1.0, 1.0])
    assert float(weights[0, 0, :4, :4].sum()) / 256 == pytest.approx(0.5)
    assert float(weights[1, 0, :15].sum()) / 256 == pytest.approx(0.5)


def test_change_weights_of_equal_latents_are_equal() -> None:
    latents = torch.ones(1, 4, 16, 16)
    assert (losses.change_weights(latents, latents) == 1.0).all()


class Seen:
    """A UNet and a text encoder that keep what they see."""

    dtype = torch.float32

    def __call__(self, inputs, timesteps, text, class_labels=None):
        self.inputs, self.text = inputs, text
        self.sample = inputs[:, :4]
        return self

    def encode(self, tokens):
        return (tokens,)


def test_instruction_loss_drops_text_source_or_both_in_a_twentieth_each() -> None:
    torch.manual_seed(0)
    seen, number = Seen(), 4000
    latents = torch.full((number, 4, 2, 2), 3.0)
    edits = losses.EditBatch(latents, latents, torch.ones(number, 5, dtype=torch.long))
    empty = torch.zeros(5, dtype=torch.long)
    losses.instruction_loss(seen, seen.encode, edits, empty, scaling_factor=2.0)
    no_text, no_image = seen.text[:, 0] == 0, seen.inputs[:, 4, 0, 0] == 0
    assert set(seen.inputs[:, 4:].unique().tolist()) == {0.0, 1.5}
    for share in (no_text & ~no_image, ~no_text & no_image, no_text & no_image):
        assert float(share.float().mean()) == pytest.approx(0.05, abs=0.012)


def test_drop_prompts_empties_a_tenth() -> None:
    torch.manual_seed(0)
    tokens = losses.drop_prompts(torch.ones(4000, 3, dtype=torch.long), torch.zeros(3).long())
    assert float((tokens[:, 0] == 0).float().mean()) == pytest.approx(0.1, abs=0.015)
    assert ((tokens == 0).all(1) | (tokens == 1).all(1)).all()


def test_clip_loss_takes_equal_captions_for_no_negatives() -> None:
    torch.manual_seed(0)
    tokenizer = clip_tokenizer(["red", "blue", "star"])
    clip, images = build_clip(tokenizer, layers=1), torch.rand(4, 3, 64, 64)
    equal = token_table(tokenizer, ["red star"] * 4)
    assert losses.clip_loss(clip, images, equal).item() == pytest.approx(0.0, abs=1e-4)
    other = token_table(tokenizer, ["red star", "blue star", "star", "red"])
    logits = clip(input_ids=other, pixel_values=images).logits_per_image
    target = torch.arange(4)
    both = [functional.cross_entropy(part, target) for part in (logits, logits.T)]
    assert losses.clip_loss(clip, images, other).item() == pytest.approx(sum(both).item() / 2)


@pytest.fixture(scope="module")
def judged():
    torch.manual_seed(0)
    tokenizer = chat_tokenizer([*sorted(LEXICON), *ANSWER_WORDS], max_tokens=MAX_TOKENS)
    judge = build_judge(tokenizer, vision_layers=1, layers=2)
    examples = [pair_example(index, split="train") for index in range(3)]
    cache = Cache(arrays={}, texts=[dict(example.texts) for example in examples])
    texts_nt, is_answer_nt = tokenize_answers(cache, build_processor(tokenizer))
    images = losses.to_images(
        torch.from_numpy(
            np.stack([e.arrays[name] for e in examples for name in ("source", "edited")])
        )
    )
    pairs = PairBatch(images, texts_nt.long(), is_answer_nt)
    return judge, pairs, answer_tokens(tokenizer, CPU), int(tokenizer.pad_token_id)


def seed_with(number: int, condition) -> int:
    """Returns a seed whose first uniform numbers all meet a condition."""
    for seed in range(1000):
        torch.manual_seed(seed)
        if condition(torch.rand(number, 1)).all():
            return seed
    raise AssertionError("no such seed")


def test_judge_loss_is_that_of_the_models_own_forward_pass(judged) -> None:
    judge, pairs, answers, padding = judged
    logits = judge(
        input_ids=pairs.tokens,
        attention_mask=(pairs.tokens != padding).long(),
        pixel_values=pairs.images,
    ).logits
    is_answer = pairs.is_answer[:, 1:]
    labels = pairs.tokens[:, 1:][is_answer]
    log_probabilities = logits[:, :-1][is_answer].log_softmax(-1)
    cross_entropy = -(answers.soft_labels_vv[labels] * log_probabilities).sum(-1)
    is_score = torch.isin(labels, answers.score_ids)
    assert int(is_score.sum()) == 4 * len(pairs.tokens)
    true = cross_entropy[~is_score].mean() + SCORE_WEIGHT * cross_entropy[is_score].mean()
    torch.manual_seed(seed_with(3, lambda chance: chance >= 0.5))
    assert judge_loss(judge, pairs, answers).item() == pytest.approx(true.item(), rel=1e-4)


def test_judge_loss_does_not_depend_on_the_length_of_the_padding(judged) -> None:
    judge, pairs, answers, padding = judged
    longest = int((pairs.tokens != padding).any(dim=0).sum())
    assert longest < pairs.tokens.shape[1]
    cut = PairBatch(pairs.images, pairs.tokens[:, :longest], pairs.is_answer[:, :longest])
    seed = seed_with(3, lambda chance: chance >= 0.5)
    values = []
    for batch in (pairs, cut):
        torch.manual_seed(seed)
        values.append(judge_loss(judge, batch, answers).item())
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_judge_loss_hears_other_scores_and_words_in_half_of_the_answers(judged) -> None:
    judge, pairs, answers, _ = judged
    heard = []

    def keep(module, inputs):
        heard.append(inputs[0])

    handle = judge.model.language_model.embed_tokens.register_forward_pre_hook(keep)
    torch.manual_seed(seed_with(3, lambda chance: chance < 0.5))
    judge_loss(judge, pairs, answers)
    handle.remove()
    is_other = heard[0] != pairs.tokens
    is_score = torch.isin(pairs.tokens, answers.score_ids) & pairs.is_answer
    assert float(is_other[is_score].float().mean()) > 0.6
    assert torch.isin(heard[0][is_score], answers.score_ids).all()
    assert not is_other[~pairs.is_answer].any()
    assert float(is_other[pairs.is_answer & ~is_score].float().mean()) < 0.1


@pytest.fixture(scope="module")
def masks() -> torch.Tensor:
    rng = np.random.default_rng(0)
    masks = np.zeros((300, 32, 32), np.float32)
    for mask in masks:
        top, left = rng.integers(0, 20, 2)
        mask[top : top + rng.integers(1, 12), left : left + rng.integers(1, 12)] = 1.0
    return torch.from_numpy(masks)


def test_boxes_are_those_of_the_operator_and_half_of_them_jittered(masks: torch.Tensor) -> None:
    true = torch.tensor([bounding_box(mask.numpy() > 0) for mask in masks]).float()
    assert torch.equal(sam_loss.bounding_boxes(masks), true)
    torch.manual_seed(0)
    jittered = sam_loss.jittered_boxes(masks)
    assert (jittered - true).abs().max() <= sam_loss.BOX_JITTER_PX
    assert float((jittered == true).all(dim=1).float().mean()) == pytest.approx(0.5, abs=0.1)
    assert jittered.min() >= 0
    assert jittered.max() <= 32


def test_points_lie_where_their_labels_say(masks: torch.Tensor) -> None:
    torch.manual_seed(0)
    prompts = sam_loss.point_prompts(masks, 3)
    points, labels = prompts["input_points"][:, 0].long(), prompts["input_labels"][:, 0]
    rows = torch.arange(len(masks))[:, None]
    assert torch.equal(masks[rows, points[..., 1], points[..., 0]].long(), labels)
    assert (labels[:, 0] == 1).all()
    assert float(labels[:, 1:].float().mean()) == pytest.approx(0.5, abs=0.1)
    everything = sam_loss.point_prompts(torch.ones(8, 4, 4), 3)
    assert (everything["input_labels"] == 1).all()


def test_mask_losses_are_least_for_the_true_mask(masks: torch.Tensor) -> None:
    true = masks[:4, None]
    right, wrong = (40 * true - 20), (20 - 40 * true)
    values = losses.mask_losses(torch.cat([right, wrong], dim=1), true)
    assert values.shape == (4, 2)
    assert (values[:, 0] < 0.01).all()
    assert (values[:, 1] > 1.0).all()
