"""Differential Diffusion (arXiv 2306.00950) by a flow-matching transformer."""

from overpaint.operators.controls.masking import free_by_strength
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.operators.diffusion.flow_method import FlowMethod
from overpaint.operators.diffusion.method import Framed
from overpaint.pipeline.conditions import STRENGTH_MAP


class FlowDifferential(FlowMethod, Framed):
    """SDEdit by a flow whose strength is the strength map's at each place.

    A place is free from the step on at which `flow_sdedit` of its strength would start. The
    official map has the opposite sense: there 1 keeps.
    """

    papers = ("2306.00950", "2209.03003")
    family = "F07"
    edit_types = ("background", "color", "replace", "remove", "texture")
    needs = (STRENGTH_MAP,)

    def sampling(self, batch: Batch) -> Sampling:
        """Starts from the fully noised sources; frees places as their strength comes up."""
        return Sampling(start_bchw=batch.noised_source, hooks=[free_by_strength(batch)])
