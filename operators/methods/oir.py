"""Object-aware Inversion and Reassembly (arXiv 2310.12149): each object with steps of its own.

Objects differ in how far towards noise their edit must start. Each is edited alone from several
levels of the inverted source; the best of each are put together a few steps before the end, taken
back a little under the source prompt, and denoised together under the target prompt.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from overpaint.operators.controls import object_search as search
from overpaint.operators.controls.chooses_by_clip import ChoosesByClip
from overpaint.operators.controls.guidance import ClassifierFree
from overpaint.operators.controls.object_search import Region, Replacement, replacements
from overpaint.operators.controls.path_pieces import denoised, taken_back
from overpaint.operators.diffusion.batch import Batch
from overpaint.operators.framing.conditions import edit_concepts
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Row, first_text
from overpaint.pipeline.conditions import BOXES, EDIT_CONCEPTS
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from overpaint.operators.diffusion.prompts import PromptEmbeds
    from torch import Tensor


class OIR(ChoosesByClip):
    """Several objects of a source replaced, each from the level that suits it best.

    `edit_concepts` has each object's new phrase and after it, reversed, the old one. An object's
    place is the box that is labelled with one of them, or else the mask.
    """

    papers = ("2310.12149", "2305.16807")
    family = "F08"
    edit_types = ("replace", "color", "texture")
    needs = (c.INVERTED_PATH, EDIT_CONCEPTS)
    uses = (BOXES,)
    reads_seed = False

    guidance_scale: float = Field(default=7.5, ge=0, le=100)
    """Scale of the guidance away from the source prompt; 7.5 in the official code."""
    reassembly_step: float = Field(default=0.2, ge=0, lt=1)
    """Share of the steps that is left when objects are put together; 10 of 50 in the paper."""
    reinversion_steps: float = Field(default=0.2, ge=0, le=1)
    """Share of the steps by which the whole is then taken back; 10 of 50 in the paper."""
    num_candidates: int = Field(default=4, ge=1, le=1000)
    """Levels from which each object is tried, at equal distances; the paper tries all of them."""

    def prompts(self, row: Row) -> dict[str, str]:
        """Returns the row's prompts, and those with one of its changes each."""
        prompts = super().prompts(row)
        source, target = prompts[c.SOURCE_PROMPT.name], prompts[c.TARGET_PROMPT.name]
        changed = {
            f"edit_concepts[{2 * k}]": change.in_prompt(source, target)
            for k, change in enumerate(_changes(row))
        }
        return {**prompts, **changed}

    def levels(self, num_inference_steps: int) -> list[int]:
        """Returns the numbers of steps from which objects are tried, of those before assembly."""
        last = self._counts(num_inference_steps)[0]
        shares = [k / self.num_candidates for k in range(1, self.num_candidates + 1)]
        steps = {last + round((num_inference_steps - last) * share) for share in shares}
        return sorted(steps - {0})

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts a row with one object."""
        return self._cost(num_inference_steps, 1) + Cost(text=3)

    def row_cost(self, row: Row, num_inference_steps: int) -> Cost:
        """Counts the search for each object of the row, and its different prompts."""
        changes = _changes(row)
        source = first_text(row, c.SOURCE_PROMPT, c.CAPTION) or ""
        target = first_text(row, c.TARGET_PROMPT) or ""
        texts = {source, target, *(change.in_prompt(source, target) for change in changes)}
        return self._cost(num_inference_steps, len(changes)) + Cost(text=len(texts - {""}))

    def edited(self, batch: Batch) -> "Tensor":
        """Searches each object's level, puts the objects together, and denoises the whole."""
        from overpaint.operators.diffusion.latents import latent_masks

        last, back = self._counts(len(batch.schedule.steps))
        steps, whole = batch.schedule.steps, batch.trajectory_sbchw[-1 - last]
        rows = [replacements(r.values[EDIT_CONCEPTS.name]) for r in batch.requests]
        for changes in zip(*rows, strict=True):
            places = [search.region(*each) for each in zip(batch.requests, changes, strict=True)]
            found = self._search(batch, changes, places)
            whole = whole.lerp(found, latent_masks(places, whole))
        noisy = taken_back(batch, whole, steps[len(steps) - last - back : len(steps) - last])
        target = batch.prompts([request.prompt for request in batch.requests])
        return self._denoised(batch, noisy, last + back, target)[-1]

    def _search(
        self, batch: Batch, changes: Sequence[Replacement], places: Sequence[Region]
    ) -> "Tensor":
        """Returns the best edit of one object of each row, at the level of the reassembly."""
        import torch

        path, num_steps = batch.trajectory_sbchw, len(batch.schedule.steps)
        last, _ = self._counts(num_steps)
        sources = zip(changes, batch.source_prompts(), batch.requests, strict=True)
        guided = batch.prompts([each.in_prompt(s, r.prompt) for each, s, r in sources])
        kept: list[Tensor] = []
        pictures: list[list[NDArray[np.float32]]] = []
        for level in self.levels(num_steps):
            run = self._denoised(batch, path[-1 - level], level, guided)
            kept.append(run[-1 - last])
            pictures.append(batch.decode(run[-1]))
        best = search.best_levels(batch, self.clip_weights, changes, places, pictures)
        return torch.stack([kept[level][row] for row, level in enumerate(best)])

    def _denoised(
        self, batch: Batch, latents_bchw: "Tensor", num_steps: int, prompts: "PromptEmbeds"
    ) -> "list[Tensor]":
        """Returns the latents along the last steps, guided away from the source prompt."""
        branches = {"text": prompts}
        if self.guidance_scale != 1.0:
            branches["negative"] = batch.prompts(batch.source_prompts())
        predictor = batch.predictor(branches, ClassifierFree(guidance_scale=self.guidance_scale))
        return denoised(batch, latents_bchw, batch.schedule.steps[-num_steps:], predictor)

    def _counts(self, num_inference_steps: int) -> tuple[int, int]:
        """Returns the steps after the reassembly, and those of the inversion before them."""
        last = round(self.reassembly_step * num_inference_steps)
        back = round(self.reinversion_steps * num_inference_steps)
        return last, min(back, num_inference_steps - last)

    def _cost(self, num_inference_steps: int, num_objects: int) -> Cost:
        """Counts all but the prompts."""
        last, back = self._counts(num_inference_steps)
        levels = self.levels(num_inference_steps)
        guided = 1 if self.guidance_scale == 1.0 else 2
        return Cost(
            forward=guided * (num_objects * sum(levels) + last + back) + back,
            vae_decode=num_objects * len(levels) + 1,
            clip=num_objects * (len(levels) + 1),
        )


def _changes(row: Row) -> list[Replacement]:
    """Returns the changes of a row; none where it has no concepts."""
    return replacements(edit_concepts(row.get(EDIT_CONCEPTS.input.name) or ()) or ())
