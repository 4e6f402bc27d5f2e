"""FLUX.1 Kontext (arXiv 2506.15742): a transformer that sees the source and follows an instruction.

It runs through diffusers' FluxKontextPipeline, as `transformer` with the editor `flux_kontext`.
"""

from overpaint.operators.diffusion.pipeline_call import CallSettings, PipelineCall
from overpaint.operators.diffusion.pipeline_method import PipelineMethod
from overpaint.operators.pipelines.flux_kontext import KONTEXT_SHAPES, FluxKontext
from overpaint.pipeline import columns as c
from pydantic import Field


class Kontext(PipelineMethod):
    """FLUX.1 Kontext, which sees the source and follows an instruction."""

    papers = ("2506.15742",)
    family = "F11"
    edit_types = ("add", "remove", "replace", "background", "color", "texture", "style", "pose")
    checkpoints = FluxKontext.classes
    prompt = c.INSTRUCTION
    shapes = KONTEXT_SHAPES

    num_inference_steps: int = Field(default=28, ge=1, le=1000)
    """Denoising steps from noise to picture."""
    guidance_scale: float = Field(default=2.5, ge=0, le=100)
    """Scale of the guidance that is distilled into the model; it costs no evaluations."""

    @property
    def call(self) -> PipelineCall:
        """The way of calling the pipeline."""
        return FluxKontext()

    def call_settings(self, num_inference_steps: int) -> CallSettings:
        """Returns the numbers of its calls."""
        return CallSettings(
            num_inference_steps=num_inference_steps, guidance_scale=self.guidance_scale
        )
