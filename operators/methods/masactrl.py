"""MasaCtrl (arXiv 2304.08465): new poses and views of the same things, on an inverted source.

At first the target prompt lays the picture out anew. From a step and a layer on, its queries look
at the source's keys and values (mutual self-attention), so that things look as they do there.
"""

from collections.abc import Collection, Mapping

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.controls.sharing import (
    ShareAttention,
    self_attention_layers,
    source_on_trajectory,
)
from overpaint.operators.diffusion.attention import AttentionEdits, QKVEdit
from overpaint.operators.diffusion.batch import Batch, BranchInputs, Sampling
from overpaint.operators.diffusion.schedule import Window
from overpaint.pipeline import columns as c
from pydantic import Field


class MasaCtrl(TextGuided):
    """Mutual self-attention: the target's layout, with the source's looks."""

    papers = ("2304.08465", "2206.02779")
    family = "F06"
    edit_types = ("pose", "viewpoint", "expression", "resize")
    needs = (c.INVERTED_PATH,)
    reads_seed = False

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance; 7.5 in the official code."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked; all of them in the paper."""
    start_step: float = Field(default=0.08, ge=0, le=1)
    """Share of the walked steps before mutual self-attention; step 4 of 50 in the official code."""
    start_layer: float = Field(default=0.625, ge=0, le=1)
    """Share of the self-attention layers, in order of execution, before the first that is mutual;
    layer 10 of 16 in the official code."""

    @property
    def _mutual(self) -> Window:
        return (self.start_step, 1.0)

    def branches(self) -> Mapping[str, Window]:
        """Returns those of the guidance, and the source while its keys and values are used."""
        return {**super().branches(), "source": self._mutual}

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory, with mutual self-attention in the decoder's later layers.

        The official code samples the source anew; here it runs along its inverted path.
        """
        layers = self_attention_layers(batch)
        names = {layer.name for layer in layers[round(self.start_layer * len(layers)) :]}
        return Sampling(
            start_bchw=batch.trajectory_sbchw[batch.steps[0].index],
            branches={"source": self.source_branch(batch)},
            attention=AttentionEdits(qkv=[self.mutual(batch, names, batch.window(self._mutual))]),
            hooks=[keep_outside_on_trajectory(batch)],
        )

    def source_branch(self, batch: Batch) -> BranchInputs:
        """Returns the branch whose keys and values are looked at."""
        return source_on_trajectory(batch)

    def mutual(self, batch: Batch, layers: Collection[str], steps: range) -> QKVEdit:
        """Returns the edit by which queries look at the source."""
        del batch
        return ShareAttention(parts=("key", "value"), layers=layers, steps=steps)
