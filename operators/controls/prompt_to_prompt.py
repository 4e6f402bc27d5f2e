"""Cross-attention of the source for the words of the target.

Prompt-to-Prompt (arXiv 2208.01626): where a word looks decides where its thing appears, so words
that both prompts share, and words that take the place of others, look where the source's did.

Shapes: n branches, b rows, h heads, q queries, s source tokens, t target tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import torch
from overpaint.operators.diffusion.attention import Layer
from overpaint.operators.diffusion.schedule import Step
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SwapWords:
    """Gives the branch `text` the cross-attention maps of the branch `source`.

    Attributes:
        words_bst: which source tokens a target token takes its map from; a column of zeros keeps
            the target's own.
        steps: the steps, by index, in which it does.
    """

    words_bst: Tensor
    steps: range

    def applies(self, layer: Layer, step: Step) -> bool:
        """In cross-attention, in its steps."""
        return layer.is_cross and step.index in self.steps

    def __call__(self, branches: Sequence[str], maps: Tensor) -> Tensor:
        """Maps nbhqk in which `text` looks where `source` does."""
        source, text = maps[branches.index("source")], maps[branches.index("text")]
        words = self.words_bst[:, None].to(maps)
        has_source = words.any(dim=2, keepdim=True)
        edited = maps.clone()
        edited[branches.index("text")] = torch.where(has_source, source @ words, text)
        return edited


def align(source_ids: Sequence[int], target_ids: Sequence[int], end_id: int) -> Tensor:
    """Which source tokens (rows) a target token (column) takes its map from, float32 st.

    Args:
        source_ids: padded tokens of the source prompt.
        target_ids: of the target prompt, as many.
        end_id: the token that ends a prompt; what follows is padding.
    """
    words = torch.zeros(len(source_ids), len(target_ids))
    source, target = _content(source_ids, end_id), _content(target_ids, end_id)
    matcher = SequenceMatcher(a=source, b=target, autojunk=False)
    for change, i1, i2, j1, j2 in matcher.get_opcodes():
        if change == "equal":
            words[range(i1, i2), range(j1, j2)] = 1.0
        elif change == "replace":
            # What a word is made of differs; its attention is shared out evenly.
            words[i1:i2, j1:j2] = 1.0 / (j2 - j1)
    num_padding = len(source_ids) - max(len(source), len(target))
    for k in range(num_padding):
        words[len(source) + k, len(target) + k] = 1.0
    return words


def _content(ids: Sequence[int], end_id: int) -> list[int]:
    """Tokens up to and with the first one that ends the prompt."""
    return list(ids[: ids.index(end_id) + 1]) if end_id in ids else list(ids)
