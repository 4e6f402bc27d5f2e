"""Cross-attention of the source for the words of the target.

Prompt-to-Prompt (arXiv 2208.01626): the place where a word looks decides where its thing appears,
so words that both prompts share, and words that replace others, attend where the source's did.

Shapes: n branches, b rows, h heads, q queries, s source tokens, t target tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.attention import NO_EDITS, AttentionEdits, Site
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.diffusion.schedule import Window

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CrossAttentionReplace:
    """Edit that gives the branch `text` the cross-attention maps of the branch `source`.

    Attributes:
        words_bst: source tokens that a target token takes its map from; a column of zeros keeps
            the target's own map.
        steps: indices of the steps in which the edit applies.
    """

    words_bst: "Tensor"
    steps: range

    def applies(self, site: Site) -> bool:
        """Tells whether a site is cross-attention in one of the steps."""
        return site.layer.is_cross and site.step.index in self.steps

    def __call__(self, site: Site, maps: "Tensor") -> "Tensor":
        """Returns maps nbhqk in which `text` attends where `source` does."""
        source, text = maps[site.branches.index("source")], maps[site.branches.index("text")]
        words = self.words_bst[:, None].to(maps)
        has_source = words.any(dim=2, keepdim=True)
        edited = maps.clone()
        edited[site.branches.index("text")] = (source @ words).where(has_source, text)
        return edited


def replace_cross_attention(
    batch: Batch, window: Window, source_prompts: Sequence[str] | None = None
) -> AttentionEdits:
    """Returns the edit by which target words attend where the words of the source did.

    Args:
        batch: rows; the branch `source` must run in the window.
        window: part of the walked steps.
        source_prompts: prompts of the sources; None takes those of the rows' inversions.
    """
    steps = batch.window(window)
    if not steps:
        return NO_EDITS
    words = align_prompts(batch, source_prompts)
    return AttentionEdits(maps=[CrossAttentionReplace(words_bst=words, steps=steps)])


def align_prompts(
    batch: Batch, source_prompts: Sequence[str] | None = None, *, equal_alone: bool = False
) -> "Tensor":
    """Aligns the tokens of source and target prompts; returns weights bst, see `align`.

    Args:
        batch: rows.
        source_prompts: prompts of the sources; None takes those of the rows' inversions.
        equal_alone: leaves out tokens that replace others.
    """
    import torch
    from overpaint.operators.diffusion.prompts import eos_token_id, token_ids

    sources = batch.source_prompts() if source_prompts is None else source_prompts
    end_id, words = eos_token_id(batch.model), []
    for source, request in zip(sources, batch.requests, strict=True):
        before, after = (token_ids(batch.model, text) for text in (source, request.prompt))
        weights = align(before, after, end_id)
        if equal_alone:
            weights = weights * (torch.tensor(before)[:, None] == torch.tensor(after))
        words.append(weights)
    return torch.stack(words)


def align(source_ids: Sequence[int], target_ids: Sequence[int], end_id: int) -> "Tensor":
    """Aligns the tokens of two prompts.

    Args:
        source_ids: padded tokens of the source prompt.
        target_ids: padded tokens of the target prompt, as many.
        end_id: token that ends a prompt; padding follows it.

    Returns:
        Weights of the source tokens (rows) for each target token (columns), float32 st.
    """
    import torch

    words = torch.zeros(len(source_ids), len(target_ids))
    source, target = _without_padding(source_ids, end_id), _without_padding(target_ids, end_id)
    matcher = SequenceMatcher(a=source, b=target, autojunk=False)
    for change, i1, i2, j1, j2 in matcher.get_opcodes():
        if change == "equal":
            words[range(i1, i2), range(j1, j2)] = 1.0
        elif change == "replace":
            # Tokens of a replaced word do not correspond; its attention is shared out evenly.
            words[i1:i2, j1:j2] = 1.0 / (j2 - j1)
    num_padding = len(source_ids) - max(len(source), len(target))
    for k in range(num_padding):
        words[len(source) + k, len(target) + k] = 1.0
    return words


def _without_padding(ids: Sequence[int], end_id: int) -> list[int]:
    """Returns the tokens up to the first one that ends the prompt, and that one."""
    return list(ids[: ids.index(end_id) + 1]) if end_id in ids else list(ids)
