"""Direct Inversion (arXiv 2211.07825): an edit that is held to the source by the inversion's noise.

The source is inverted under no words (`prompt = "empty"` of the inversion). Each step mixes the
noise of the target prompt with the noise that led between the same two levels of the inversion.

The method of the same name in arXiv 2310.01506 is another one.
"""

from overpaint.operators.controls.guidance import TextGuided
from overpaint.operators.controls.inversion_noise import toward_inversion
from overpaint.operators.controls.masking import keep_outside_on_trajectory
from overpaint.operators.diffusion.batch import Batch, Sampling
from overpaint.pipeline import columns as c
from pydantic import Field


class DirectInversion(TextGuided):
    """Denoising towards the target prompt, mixed with the noise of the inversion.

    The official code can inject the noisiest latents instead (`stochastic_injection_exp_method` is
    then false); here it is the inversion's noise, as by default.
    """

    papers = ("2211.07825", "2206.02779")
    family = "F02"
    edit_types = ("color", "style", "background")
    needs = (c.INVERTED_PATH,)
    reads_seed = False

    guidance_scale: float = Field(default=3.0, ge=0, le=100)
    """Scale of classifier-free guidance; 3 in the official code."""
    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the trajectory's steps that are walked; all of them in the official code."""
    noise_merge_lambda: float = Field(default=0.5, ge=0, le=1)
    """Share of the inversion's noise: 1 gives the source, 0 is DDIM; 0.5 in the official code."""
    num_stochastic_injection_steps: float = Field(default=1.0, ge=0, le=1)
    """Share of the walked steps, from the first on, in which noise is mixed; all of them in the
    official demonstration."""

    def sampling(self, batch: Batch) -> Sampling:
        """Starts on the trajectory, with guidance towards the inversion's noise."""
        steps = batch.window((0.0, self.num_stochastic_injection_steps))
        guidance = toward_inversion(batch, self.guidance, self.noise_merge_lambda, steps)
        return Sampling(
            start_bchw=batch.trajectory_sbchw[batch.steps[0].index],
            guidance=guidance,
            hooks=[keep_outside_on_trajectory(batch)],
        )
