"""Loss of the judge: next-token loss on the words and the scores of an answer.

Scores have soft labels, so wide that a judge in doubt answers with a middling score, and its scores
rank edits by its certainty. In half of the teacher-forced answers the scores and some words are
replaced at random: the judge then relies on the images, and no score on the scores before it.

The images of a pair are always the tokens 1 to 128, so that their features are put there without a
search; with padding on the right a causal model needs no attention mask.

Shapes: n pairs, t tokens, d features, v tokens of the vocabulary, h and w pixels.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

WORD_CORRUPTION_SHARE = 0.02
# Smoothed this much, right and wrong scores differ by a tenth of a nat: words would dominate them.
SCORE_WEIGHT = 10.0


class PairBatch(NamedTuple):
    """Pairs of a step.

    Attributes:
        images: source and edited image of each pair, (2n)3HW, -1 to 1.
        tokens: token ids NT of prompts and answers, padded on the right.
        is_answer: tokens that belong to an answer, bool NT.
    """

    images: Tensor
    tokens: Tensor
    is_answer: Tensor


class AnswerTokens(NamedTuple):
    """Tokens of answers.

    Attributes:
        score_ids: token ids of the scores 0 to 10.
        soft_labels_vv: distribution over the tokens for each true token.
    """

    score_ids: Tensor
    soft_labels_vv: Tensor


def judge_loss(judge: Any, pairs: PairBatch, answers: AnswerTokens) -> Tensor:
    """Returns the cross-entropy of the words, and ten times that of the scores, of answers."""
    heard = _corrupted(pairs, answers.score_ids)
    # An answer begins after both images: nothing before it needs logits.
    first = 1 + 2 * int(judge.config.image_seq_length)
    hidden = _hidden_states(judge.model, pairs.images, heard, first)
    log_probabilities = judge.lm_head(hidden[:, first - 1 : -1]).float().log_softmax(-1)
    labels = pairs.tokens[:, first:]
    cross_entropy = -(answers.soft_labels_vv[labels] * log_probabilities).sum(-1)
    is_answer = pairs.is_answer[:, first:]
    is_score = is_answer & _is_among(labels, answers.score_ids)
    words = _mean_over(cross_entropy, is_answer & ~is_score)
    return words + SCORE_WEIGHT * _mean_over(cross_entropy, is_score)


def _hidden_states(model: Any, images: Tensor, tokens_nt: Tensor, first: int) -> Tensor:
    features = model.vision_tower(images).last_hidden_state[:, 1:]
    features = model.multi_modal_projector(features)
    seen = features.reshape(len(tokens_nt), first - 1, -1)
    embedded = model.language_model.embed_tokens(tokens_nt)
    inputs = torch.cat([embedded[:, :1], seen, embedded[:, first:]], dim=1)
    return model.language_model(inputs_embeds=inputs, use_cache=False).last_hidden_state


def _corrupted(pairs: PairBatch, score_ids: Tensor) -> Tensor:
    """Returns the tokens with random scores and some random words in half of the answers."""
    tokens, is_answer = pairs.tokens, pairs.is_answer
    is_score = _is_among(tokens, score_ids) & is_answer
    is_corrupted = is_answer & (torch.rand(len(tokens), 1, device=tokens.device) < 0.5)
    choice = torch.rand(2, *tokens.shape, device=tokens.device)
    random_scores = score_ids[(choice[0] * len(score_ids)).long()]
    heard = torch.where(is_corrupted & is_score, random_scores, tokens)
    # A random word is what another answer of the batch says at the same place.
    other = torch.rand(tokens.shape, device=tokens.device).argsort(dim=0)
    is_word = (is_answer & ~is_score).gather(0, other) & is_corrupted & ~is_score
    is_word = is_word & (choice[1] < WORD_CORRUPTION_SHARE)
    return torch.where(is_word, tokens.gather(0, other), heard)


def _mean_over(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp(min=1)


def _is_among(tokens: Tensor, ids: Tensor) -> Tensor:
    return (tokens[..., None] == ids).any(dim=-1)
