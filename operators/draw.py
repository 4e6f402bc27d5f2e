"""`draw`: draws each source from its prompt, where a pair of pictures is made of words alone.

It takes the place of `fetch`: `source_uri` is only a name. The trajectory from noise to picture is
handed on as an inversion's would be, so that an `edit` of its group starts from the same noise, as
the pairs of InstructPix2Pix were made (arXiv 2211.09800, by Prompt-to-Prompt, arXiv 2208.01626).
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.controls.guidance import ClassifierFree
from overpaint.operators.diffusion.edit_row import drawn
from overpaint.operators.diffusion.inversion import InvertedPath
from overpaint.operators.diffusion.inverting import Drawing
from overpaint.operators.diffusion.method import TEXT_TO_IMAGE
from overpaint.operators.diffusion.prompt_length import LimitsPrompts
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.framing.frame import Size, frame_whole
from overpaint.operators.models.uses_checkpoint import UsesPipeline
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row, first_text
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import RowError, near_miss
from overpaint.pipeline.identity import sha256
from overpaint.pipeline.images import Picture, encode
from overpaint.pipeline.operator import Kind, ModelOperator, NewColumns, Operator
from overpaint.pipeline.runs.folder import object_paths
from overpaint.pipeline.runs.shards import member_names
from overpaint.pipeline.storage.store import Storage
from pydantic import Field, field_validator

if TYPE_CHECKING:
    from overpaint.operators.diffusion.latent_model import LatentModel

_SCALE = c.GUIDANCE_SCALE.name


@dataclass(frozen=True, slots=True)
class DrawnSource:
    """A source as a model has drawn it.

    Attributes:
        pixels: RGB float32 HWC, about 0-255.
        path: its trajectory from noise to clean latents.
    """

    pixels: NDArray[np.float32]
    path: InvertedPath


class Draw(LimitsPrompts, Drawing, UsesPipeline[Any], ModelOperator[Any, EditRequest, DrawnSource]):
    """Draws sources of `source_prompt`, each with the noise of its row's seed, by DDIM."""

    kind: ClassVar[Kind] = "fetch"
    pipelines = TEXT_TO_IMAGE

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of classifier-free guidance; 1 is unguided. A row's own comes before it."""
    vary: dict[str, tuple[float, ...]] = Field(default={})
    """Scales of which a row takes one by its seed; `vary` of an edit with equal values takes the
    same one, so that both pictures of a pair have one scale."""
    negative_prompt: str = ""
    """Negative prompt for classifier-free guidance."""
    resolution: int | None = Field(default=None, ge=8, le=4096)
    """Side of the square pictures, in pixels; null takes the checkpoint's."""

    @field_validator("vary")
    @classmethod
    def _scales_are_in_range(
        cls, vary: dict[str, tuple[float, ...]]
    ) -> dict[str, tuple[float, ...]]:
        for name, values in vary.items():
            if name != _SCALE:
                raise ValueError(f"unknown field {name!r}: {near_miss(name, [_SCALE])}")
            if not values or not all(0 <= value <= 100 for value in values):
                raise ValueError(f"{name}: give one or more numbers from 0 to 100")
        return vary

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The prompt and the seed, and where the picture is stored."""
        return (c.SOURCE_PROMPT, c.SEED, c.KEY, c.RUN_URI, c.IMAGE_FORMAT)

    @property
    def optional(self) -> tuple[Column, ...]:
        """The row's own scale, and whether the runner packs the picture."""
        return (c.GUIDANCE_SCALE, c.IS_PACKED)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The source as if it had been fetched, where it is stored, and its trajectory."""
        fetched = (c.SOURCE_IMAGE, c.SOURCE_SHA256, c.WIDTH_PX, c.HEIGHT_PX)
        return (*fetched, c.DRAWN_URI, c.INVERTED_PATH)

    def load(self) -> "LatentModel":
        """Loads the model; every operator of the actor with the same checkpoint shares it."""
        from overpaint.operators.diffusion.latent_model import load_latent_model

        return load_latent_model(self.weights)

    def free_memory(self, model: "LatentModel", *, exact: bool) -> str | None:
        """Offloads the model's parts, or slices its VAE."""
        from overpaint.operators.diffusion.latent_model import free_memory

        return free_memory(model, exact=exact)

    def cost(self, row: Row, sources: Mapping[str, Operator[Any]]) -> Cost:
        """Counts the steps under the prompt, and without it where there is guidance."""
        del sources
        branches = 1 if self._scale(row) == 1.0 else 2
        return Cost(forward=branches * self.num_inference_steps, vae_decode=1, text=1)

    def bucket(self, row: Row) -> Hashable:
        """Returns the scale: rows of unlike scales do not share a call."""
        return self._scale(row)

    def _scale(self, row: Row) -> float:
        own = row.get(_SCALE)
        values = drawn(self.vary, row["seed"]) if self.vary else {}
        return own if own is not None else values.get(_SCALE, self.guidance_scale)

    def prepare(self, row: Row, model: "LatentModel", /) -> EditRequest:
        """Frames a square picture, of which there are no pixels yet.

        Raises:
            RowError: `prompt_missing` or `prompt_too_long`.
        """
        prompt = first_text(row, c.SOURCE_PROMPT)
        if prompt is None:
            raise RowError("prompt_missing", "a source is drawn from source_prompt")
        self.tokens_cut({c.SOURCE_PROMPT.name: model.text_length(prompt)})
        multiple_px = model.multiple_px
        side_px = max(1, round((self.resolution or model.resolution_px) / multiple_px))
        size = Size(side_px * multiple_px, side_px * multiple_px)
        return EditRequest(
            frame=frame_whole(*size, size),
            picture=np.zeros((size.height_px, size.width_px, 3), np.uint8),
            prompt=prompt,
            seed=row["seed"],
            values={_SCALE: self._scale(row)},
        )

    def infer(self, inputs: Sequence[EditRequest], model: "LatentModel", /) -> list[DrawnSource]:
        """Draws a batch of one scale."""
        import torch
        from overpaint.operators.controls.trajectory import headers
        from overpaint.operators.diffusion.batch import Batch

        batch = Batch(inputs, model, num_inference_steps=self.num_inference_steps, walked=range)
        scale: float = inputs[0].values[_SCALE]
        with torch.no_grad():
            levels = _walked(batch, scale, self.negative_prompt)
        paths = (torch.stack([level[place] for level in levels]) for place in range(len(inputs)))
        pictures = zip(batch.decode(levels[-1]), headers(batch), paths, strict=True)
        return [
            DrawnSource(pixels, InvertedPath(**header, trajectory_schw=path))
            for pixels, header, path in pictures
        ]

    def answer(
        self, row: Row, input: EditRequest, output: DrawnSource, model: "LatentModel", /
    ) -> NewColumns:
        """Stores the picture, and hands it on.

        Raises:
            RowError: `nan_in_result`.
        """
        del model
        if not (np.isfinite(output.pixels).all() and output.path.is_finite()):
            raise RowError("nan_in_result", "the drawn picture holds values that are not finite")
        pixels = np.clip(np.rint(output.pixels), 0, 255).astype(np.uint8)
        data = encode(Picture(pixels), row["image_format"])
        is_packed = row.get(c.IS_PACKED.name)
        paths = (member_names if is_packed else object_paths)(row["key"], row["image_format"])
        path = paths[c.DRAWN_URI.name]
        if row["run_uri"] and not is_packed:  # a row that is replayed stores nothing
            Storage(row["run_uri"]).write(path, data)
        return {
            "source_image": data,
            "source_sha256": sha256(data),
            "width_px": input.frame.size.width_px,
            "height_px": input.frame.size.height_px,
            "drawn_uri": path,
            "inverted_path": output.path,
        }


def _walked(batch: Any, scale: float, negative_prompt: str) -> list[Any]:
    """Walks a batch from noise to clean latents; returns the latents bchw of every level."""
    import torch
    from overpaint.operators.diffusion.latents import draw_noise

    model, (first, *_) = batch.model, batch.requests
    sides = [side // model.factor_px for side in reversed(first.frame.size)]
    shape = (len(batch.requests), model.unet.config.in_channels, *sides)
    levels = [draw_noise(batch.generators, torch.empty(shape, device=model.device))]
    prompts = {"text": batch.prompts([request.prompt for request in batch.requests])}
    if scale != 1.0:
        prompts["negative"] = batch.negative_prompts(negative_prompt)
    predict = batch.predictor(prompts, ClassifierFree(guidance_scale=scale))
    for step in batch.steps:
        levels.append(batch.advance(levels[-1], step, predict(levels[-1], step)))
    return levels
