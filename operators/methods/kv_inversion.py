"""KV Inversion (arXiv 2309.16608): learned keys and values of the source for another action.

From a step and a layer on, what self-attention adds to the source's keys and values is learned in
each step, so that the source's own prediction leads along its trajectory; the target's queries look
at the learned ones, as in MasaCtrl (arXiv 2304.08465). Nothing is kept from step to step.

Shapes: n branches, b rows, h heads, k keys, d channels of a head; c latent channels.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from overpaint.operators.controls.row_fit import fit_rows, path_error
from overpaint.operators.controls.sharing import ShareAttention
from overpaint.operators.diffusion.attention import QKV, AttentionEdits, Site
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.schedule import Schedule, Step
from overpaint.operators.methods.masactrl import MasaCtrl
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from overpaint.operators.diffusion.sampling import Branch, Controls
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LearnedKeysValues:
    """Edit that adds what is learned to the keys and values of the branch `source`.

    Attributes:
        layers: names of the layers.
        steps: indices of the steps in which it is learned.
        learned: additions bhkd to keys and values, by the name of their layer.
    """

    layers: Collection[str]
    steps: range
    learned: "dict[str, tuple[Tensor, Tensor]]" = field(
        default_factory=dict[str, "tuple[Tensor, Tensor]"]
    )

    def applies(self, site: Site) -> bool:
        """Tells whether something is learned for a site."""
        return site.layer.name in self.learned and site.step.index in self.steps

    def __call__(self, site: Site, qkv: QKV) -> QKV:
        """Returns queries, keys and values nbhkd, with the source's learned ones."""
        source, (key, value) = site.branches.index("source"), self.learned[site.layer.name]
        return qkv._replace(
            key=_added(qkv.key, source, key), value=_added(qkv.value, source, value)
        )

    def keep(self, values: "Sequence[Tensor]") -> None:
        """Keeps additions, keys and values in turn, for each layer."""
        pairs = zip(values[::2], values[1::2], strict=True)
        self.learned.update(zip(self.layers, pairs, strict=True))


class KVInversion(MasaCtrl):
    """Mutual self-attention whose keys and values are learned from the source in each step.

    The paper's own numbers for the steps, the layers and the optimisation are not public: they are
    MasaCtrl's here. Without inner steps it is MasaCtrl.
    """

    papers = ("2309.16608", "2304.08465", "2206.02779")
    edit_types = ("pose", "viewpoint", "resize")

    num_inner_steps: int = Field(default=3, ge=0, le=100)
    """Optimisation steps in each step with mutual self-attention."""
    learning_rate: float = Field(default=0.01, gt=0, le=10)
    """Learning rate of the keys and values."""

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts the optimisation, which predicts the source alone."""
        walked = self.walked(num_inference_steps)
        start = round(self.start_step * len(walked))
        inner = self.num_inner_steps * (len(walked) - start)
        return super().cost(num_inference_steps) + Cost(forward=inner, backward=inner)

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory, and learns keys and values before each step."""
        sampling = super().sampling(batch)
        (mutual,) = sampling.attention.qkv
        assert isinstance(mutual, ShareAttention)
        layers = sorted(mutual.layers)
        learned = LearnedKeysValues(layers=layers, steps=batch.window((self.start_step, 1.0)))
        return replace(
            sampling,
            attention=AttentionEdits(qkv=[learned, mutual]),
            sampler=partial(self._walk, batch, learned),
        )

    def _walk(
        self,
        batch: Batch,
        learned: LearnedKeysValues,
        model: "LatentModel",
        latents_bchw: "Tensor",
        schedule: Schedule,
        steps: Sequence[Step],
        branches: "dict[str, Branch]",
        controls: "Controls",
    ) -> "Tensor":
        """Returns the clean latents bchw, after learning and a step in turn."""
        from overpaint.operators.diffusion.sampling import denoise

        source = batch.prompts(batch.source_prompts()) if learned.steps else None
        for step in steps:
            if source is not None and step.index in learned.steps and self.num_inner_steps:
                self._learn(batch, learned, step, source)
            latents_bchw = denoise(model, latents_bchw, schedule, [step], branches, controls)
        return latents_bchw

    def _learn(
        self, batch: Batch, learned: LearnedKeysValues, step: Step, source: "PromptEmbeds"
    ) -> None:
        """Learns additions by which the source's prediction leads along its trajectory."""
        path = batch.trajectory_sbchw[step.index]

        def loss(values: "Sequence[Tensor]") -> "Tensor":
            learned.keep(values)
            edits = AttentionEdits(qkv=[learned])
            said = batch.predict(path, step, {"source": source}, edits)["source"]
            return path_error(batch, step, batch.advance(path, step, said))

        values = fit_rows(
            batch,
            _zeros(batch, learned.layers),
            loss,
            learning_rate=self.learning_rate,
            num_inner_steps=self.num_inner_steps,
        )
        learned.keep(values)


def _zeros(batch: Batch, layers: Collection[str]) -> "list[Tensor]":
    """Returns zeros bhkd for the keys and values of some layers, in turn."""
    modules = dict(batch.model.unet.named_modules())
    depths = {layer.name: layer.depth for layer in batch.model.attention.layers}
    latents, zeros = batch.trajectory_sbchw[0], []
    for name in layers:
        attn = modules[name]
        height, width = (-(-side // 2 ** depths[name]) for side in latents.shape[2:])
        channels = attn.to_k.out_features // attn.heads
        shape = (len(latents), attn.heads, height * width, channels)
        zeros += [latents.new_zeros(shape), latents.new_zeros(shape)]
    return zeros


def _added(tensor: "Tensor", branch: int, addition: "Tensor") -> "Tensor":
    """Returns a copy nbhkd with something added to one branch."""
    import torch

    parts = list(tensor.unbind(0))
    parts[branch] = parts[branch] + addition.to(tensor.dtype)
    return torch.stack(parts)
