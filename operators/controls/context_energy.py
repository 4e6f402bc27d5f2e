"""Energy-based cross-attention of several texts, EBCA (arXiv 2306.09869).

Cross-attention lowers an energy of queries given a context. The context descends too, from layer to
layer, by its own posterior's energy; answers to several contexts are composed.

Shapes: n branches, b rows, h heads, q queries, t tokens, c channels of a context, d channels of a
head, m of all heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.attention import Attended, Site

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Concept:
    """A text that is added to the main one, or taken from it.

    Attributes:
        tokens_btc: embedded text of each row.
        weight: `alpha`, negative where the text is taken away.
        gamma_attn: step size towards what queries look for.
        gamma_norm: step size of the regularization by the keys' lengths.
        alpha_steps: indices of the steps in which it is composed.
        gamma_steps: indices of the steps in which its context descends.
    """

    tokens_btc: "Tensor"
    weight: float
    gamma_attn: float
    gamma_norm: float
    alpha_steps: range
    gamma_steps: range


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ComposeConcepts:
    """Edit that composes what the branch `text` reads with what it would read of concepts.

    Attributes:
        concepts: concepts.
        steps: indices of the steps in which any concept acts.
        carry: whether contexts go on from step to step; else they start anew in each.
        contexts: contexts btc of the concepts, as the layers so far have left them.
    """

    concepts: Sequence[Concept]
    steps: range
    carry: bool = False
    contexts: "dict[int, Tensor]" = field(default_factory=dict[int, "Tensor"])

    def applies(self, site: Site) -> bool:
        """Tells whether a site is cross-attention of the branch in one of the steps."""
        return site.layer.is_cross and "text" in site.branches and site.step.index in self.steps

    def __call__(self, site: Site, attended: Attended) -> "Tensor":
        """Returns attended values nbqm, of which those of `text` are composed."""
        text, step = site.branches.index("text"), site.step.index
        query = attended.query[text]
        total, weights = attended.output[text], 1.0
        for number, concept in enumerate(self.concepts):
            if site.layer.order == 0 and not self.carry:
                self.contexts.pop(number, None)
            context = self.contexts.get(number, concept.tokens_btc).to(query)
            if step in concept.alpha_steps:
                total = total + concept.weight * _read(query, context, attended)
                weights += concept.weight
            if step in concept.gamma_steps:
                context = context + _descent(query, context, attended, concept)
            self.contexts[number] = context
        composed = attended.output.clone()
        composed[text] = total / weights
        return composed


def _read(query_bhqd: "Tensor", context_btc: "Tensor", attended: Attended) -> "Tensor":
    """Returns what queries read of a context, bqm."""
    from torch.nn import functional

    num_heads = query_bhqd.shape[1]
    key, value = (
        project(context_btc).unflatten(2, (num_heads, -1)).transpose(1, 2)
        for project in (attended.to_key, attended.to_value)
    )
    read = functional.scaled_dot_product_attention(query_bhqd, key, value, scale=attended.scale)
    return read.transpose(1, 2).flatten(2)


def _descent(
    query_bhqd: "Tensor", context_btc: "Tensor", attended: Attended, concept: Concept
) -> "Tensor":
    """Returns the step btc of a context down its energy; heads are taken together."""
    key, query = attended.to_key(context_btc), query_bhqd.transpose(1, 2).flatten(2)
    looks = (key @ query.transpose(1, 2) * attended.scale).softmax(dim=2)
    lengths = key.square().sum(dim=2, keepdim=True).softmax(dim=1)
    step = concept.gamma_attn * (looks @ query) - concept.gamma_norm * lengths * key
    return step @ attended.key_weight
