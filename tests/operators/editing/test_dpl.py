"""Dynamic Prompt Learning: its losses, and what of a row it changes."""

import pytest
import torch
from method_cases import make
from one_row import SD, close, edited, fitted, inverted, one_batch, path
from overpaint.operators.controls.dynamic_prompt import dynamic_losses, nouns
from overpaint.operators.diffusion.latent_model import load_latent_model
from overpaint.operators.diffusion.prompts import embed, encode
from overpaint.operators.models.weights import Checkpoint

FEW = {"num_inner_steps": 2, "early_stop_epsilon": 0.0}


@pytest.fixture
def model(checkpoint_of):
    return load_latent_model(Checkpoint(name=checkpoint_of(SD)))


@pytest.fixture
def given(checkpoint_of, row):
    return inverted("ddim", checkpoint_of, row(0, source_prompt="red fox on b"))


def test_dpl_without_nouns_is_null_text_inversion(model, checkpoint_of, given):
    expected = fitted("null_text", checkpoint_of, given, **FEW)
    made = fitted("dpl", checkpoint_of, given, num_word_steps=0, **FEW)
    words, source = made["fitted_words"], embed(model, ["red fox on b"]).tokens_bsd
    assert close(words.tokens_ntd, expected["fitted_negative"].tokens_ntd)
    assert close(words.source_ntd, source.expand_as(words.source_ntd))
    fields = {"guidance_scale": 7.5, "cross_replace_steps": 0.5}
    one = edited("null_text", checkpoint_of, {**given, **expected}, **fields)
    assert close(edited("dpl", checkpoint_of, {**given, **made}, **fields), one)


def test_dpl_moves_the_row_s_words_and_leaves_the_text_encoder(model, checkpoint_of, given):
    _, encoder = model.text[0]
    before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    fields = {**FEW, "num_word_steps": 2, "word_learning_rate": 0.1}
    made = fitted("dpl", checkpoint_of, given, **fields)["fitted_words"]
    assert all(torch.equal(before[name], weight) for name, weight in encoder.state_dict().items())
    source = embed(model, ["red fox on b"]).tokens_bsd[0]
    # Attention of the text encoder is causal: nothing before the first noun changes.
    assert close(made.source_ntd[:, :4], source[:4].expand(len(made.source_ntd), -1, -1))
    assert not close(made.source_ntd[0, 4:], source[4:])
    assert not torch.allclose(made.source_ntd[0], made.source_ntd[-1], atol=1e-4)


def test_nouns_end_their_phrases(checkpoint_of, given):
    shares = nouns(one_batch(make("ddim", checkpoint_of), given))[0]
    # Tokens: start, r, e, d, f, o, x, o, n, b, end.
    assert shares[0].nonzero().flatten().tolist() == [4, 5, 6]
    assert shares[1].nonzero().flatten().tolist() == [9]
    assert torch.allclose(shares.sum(dim=1)[:2], torch.ones(2))
    assert not shares[2:].any()


def test_dynamic_losses_are_the_paper_s():
    drawn = torch.rand(2, 3, 16, 6, generator=torch.Generator().manual_seed(0)).softmax(-1)
    shares = torch.zeros(1, 6, 6)
    shares[0, 0, 2] = 1.0
    shares[0, 1, 3:5] = 0.5
    made = dynamic_losses([drawn[:1], drawn[1:]], shares, (4, 4))
    mean = drawn.mean(dim=(0, 1))
    strong = (100 * mean[:, 1:]).softmax(-1)
    from scipy.ndimage import correlate1d

    weights = torch.tensor([-1.0, 0.0, 1.0]).div(0.5).square().mul(-0.5).exp()
    weights = (weights / weights.sum()).numpy()
    peaks = []
    for column in (strong[:, 1], strong[:, 2:4].mean(1)):
        blurred = correlate1d(column.view(4, 4).numpy(), weights, axis=0, mode="mirror")
        peaks.append(1 - correlate1d(blurred, weights, axis=1, mode="mirror").max())
    assert float(made.attention) == pytest.approx(max(peaks), abs=1e-5)
    maps = mean[:, 2], mean[:, 3:5].mean(1)
    away = ~((maps[0] >= maps[0].max() / 2) | (maps[1] >= maps[1].max() / 2))
    cosine = torch.nn.functional.cosine_similarity
    expected = sum(float(cosine(one, away.float(), dim=0)) for one in maps) / 2
    assert float(made.background) == pytest.approx(expected, abs=1e-5)
    assert float(made.disjoint) == pytest.approx(float(cosine(*maps, dim=0)), abs=1e-5)


def test_encode_adds_to_the_tokens_of_each_row_alone(model):
    prompts = ["a b", "c d"]
    additions = torch.zeros(2, 16, 16)
    additions[1, 1, 0] = 5.0
    with torch.no_grad():
        made = encode(model, prompts, [additions]).tokens_bsd
    plain = embed(model, prompts).tokens_bsd
    assert close(made[0], plain[0])
    assert not close(made[1], plain[1])
    assert close(made[1, :1], plain[1, :1])


def test_dpl_keeps_to_the_path_where_words_are_the_source_s(checkpoint_of, given):
    same = {**given, "target_prompt": "red fox on b"}
    fields = {"num_inner_steps": 10, "learning_rate": 0.05, "num_word_steps": 1}
    made = fitted("dpl", checkpoint_of, same, **fields)
    near = edited("dpl", checkpoint_of, {**same, **made}, cross_replace_steps=0.0)
    plain = {"guidance_scale": 7.5, "strength": 1.0}
    far = edited("ddim", checkpoint_of, same, **plain)
    clean = path(given)[-1]
    assert (near - clean).square().mean() < (far - clean).square().mean()
