"""Tokenizers of papercut: every word of the lexicon is one token.

Byte-level tokenizers split words outside the lexicon into letters, so that nothing is unknown to
them; BLIP's tokenizer takes whole words and has an unknown token.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from overpaint.jobs.training.byte_pairs import WORD_END, split_word
from overpaint.jobs.training.word_ids import MAX_TOKENS
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import BertTokenizer, CLIPTokenizer, PreTrainedTokenizerFast


class BytePairs(NamedTuple):
    """Byte-level BPE whose words end in `</w>`.

    Attributes:
        vocab: id of each token.
        merges: pairs of tokens to merge, in order of rank.
    """

    vocab: dict[str, int]
    merges: list[tuple[str, str]]


def byte_pairs(words: Iterable[str], special_tokens: Sequence[str]) -> BytePairs:
    """Builds the byte pairs that make each word one token, in the order of the words.

    The merges of a later word rank below those of earlier words, and so cannot split those.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    ranks: dict[tuple[str, str], int] = {}
    for word in words:
        pieces = split_word(word, ranks)
        while len(pieces) > 1:
            ranks.setdefault((pieces[0], pieces[1]), len(ranks))
            pieces = split_word(word, ranks)
    tokens = [*letters, *(letter + WORD_END for letter in letters)]
    tokens += ["".join(pair) for pair in ranks]
    tokens = [*dict.fromkeys(tokens), *special_tokens]
    return BytePairs({token: i for i, token in enumerate(tokens)}, list(ranks))


def clip_tokenizer(words: Iterable[str], *, max_tokens: int = MAX_TOKENS) -> CLIPTokenizer:
    """Builds the CLIPTokenizer of clip, clipseg, text_to_image and instruction."""
    vocab, merges = byte_pairs(words, ["<|startoftext|>", "<|endoftext|>"])
    # The annotation is str; the tokenizers library takes pairs.
    pairs: Any = merges
    return CLIPTokenizer(vocab=vocab, merges=pairs, model_max_length=max_tokens)


def bert_tokenizer(words: Iterable[str], *, max_tokens: int = MAX_TOKENS) -> BertTokenizer:
    """Builds the BertTokenizer of caption, with the start token that BLIP expects."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
    vocab = {token: i for i, token in enumerate(dict.fromkeys([*special, *words]))}
    return BertTokenizer(vocab=vocab, bos_token="[DEC]", model_max_length=max_tokens)


def chat_tokenizer(words: Iterable[str], *, max_tokens: int) -> PreTrainedTokenizerFast:
    """Builds judge's byte-level tokenizer, with `<image>`; numbers and `name:` are one token."""
    vocab, merges = byte_pairs(words, ["<pad>", "<s>", "</s>", "<image>"])
    backend = Tokenizer(BPE(vocab=vocab, merges=merges, end_of_word_suffix=WORD_END))
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    pattern = Regex(r"\p{L}+:?|\p{N}+|[^\s\p{L}\p{N}]+")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.Sequence([decoders.Replace(WORD_END, " "), decoders.ByteLevel()])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<image>"],
        model_max_length=max_tokens,
        clean_up_tokenization_spaces=False,
    )


def token_table(tokenizer: CLIPTokenizer | BertTokenizer, texts: Sequence[str]) -> Tensor:
    """Tokenizes texts, NT, padded and truncated to the longest that the model takes."""
    encoded = tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt")
    return torch.as_tensor(encoded["input_ids"])
