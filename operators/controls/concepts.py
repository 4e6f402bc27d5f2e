"""Concepts: phrases of a row that an edit adds or removes, each a branch of its own.

Every row of a batch has as many concepts; their numbers are each row's own.

Shapes: k concepts, b rows, c latent channels, h and w latent pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overpaint.operators.diffusion.batch import Batch, BranchInputs
from overpaint.operators.diffusion.method import LatentMethod
from overpaint.operators.diffusion.schedule import ALL_STEPS, Window
from overpaint.operators.diffusion.state import StepState
from overpaint.operators.framing.conditions import EditConcept, edit_concepts
from overpaint.pipeline.columns import Row
from overpaint.pipeline.conditions import EDIT_CONCEPTS
from overpaint.pipeline.cost import Cost
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class ConceptGuided(LatentMethod):
    """A method that is guided by the concepts of a row, with numbers for those that have none.

    `negative` is the branch that concepts lead away from.
    """

    prompt = None

    edit_guidance_scale: float = Field(default=5.0, ge=0, le=100)
    """Strength of a concept's guidance; 5 in diffusers."""
    edit_threshold: float = Field(default=0.9, ge=-1, le=1)
    """Share of the least values, by which a concept does not guide: their quantile; 0.9 in
    diffusers. 0 or less lets all guide."""
    edit_weight: float = Field(default=1.0, ge=0, le=100)
    """Weight of a concept beside the others; 1 in diffusers."""
    edit_warmup: float = Field(default=0.2, ge=0, le=1)
    """Share of the walked steps before concepts guide; 10 of 50 steps in diffusers."""
    edit_cooldown: float = Field(default=1.0, ge=0, le=1)
    """Share of the walked steps after which concepts no longer guide; 1 guides to the end."""

    def branches(self) -> Mapping[str, Window]:
        """Returns that of every row; each concept of a row has one more."""
        return {"negative": ALL_STEPS}

    def prompts(self, row: Row) -> dict[str, str]:
        """Returns the row's prompts, and those of its concepts."""
        concepts = edit_concepts(row.get(EDIT_CONCEPTS.input.name) or ()) or ()
        named = {f"edit_concepts[{k}]": concept.prompt for k, concept in enumerate(concepts)}
        return {**super().prompts(row), **named}

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts a row with one concept."""
        return self._cost(num_inference_steps, 1)

    def row_cost(self, row: Row, num_inference_steps: int) -> Cost:
        """Counts a prompt, and a branch in each step, for every concept of the row."""
        return self._cost(num_inference_steps, len(row.get(EDIT_CONCEPTS.input.name) or ()))

    def _cost(self, num_inference_steps: int, num_concepts: int) -> Cost:
        num_walked = len(self.walked(num_inference_steps))
        concepts = Cost(forward=num_concepts * num_walked, text=num_concepts)
        return super().cost(num_inference_steps) + concepts

    def edited(self, batch: Batch) -> "Tensor":
        """Runs with a branch for each concept."""
        branches = {**self.branches(), **dict.fromkeys(concept_names(batch), ALL_STEPS)}
        return batch.run(branches, self.complete(self.sampling(batch)))

    def concepts(self, batch: Batch) -> "Concepts":
        """Returns the concepts of a batch, with the method's numbers where a row has none."""
        import torch

        def numbers(own: str, field: str) -> "Tensor":
            default = getattr(self, field)
            values = [
                [default if (given := getattr(each, own)) is None else given for each in row]
                for row in _rows(batch)
            ]
            # Rows of a batch have as many concepts: the number is a part of their bucket.
            table = torch.tensor(values, dtype=torch.float32, device=batch.model.device)
            return table.T[..., None, None, None]

        signs = [[-1.0 if each.reverse else 1.0 for each in row] for row in _rows(batch)]
        sign = torch.tensor(signs, device=batch.model.device).T[..., None, None, None]
        num_walked = len(batch.walked)
        return Concepts(
            names=concept_names(batch),
            first=batch.walked.start,
            sign_kb111=sign,
            scale_kb111=numbers("guidance_scale", "edit_guidance_scale"),
            threshold_kb111=numbers("threshold", "edit_threshold"),
            weight_kb111=numbers("weight", "edit_weight"),
            start_kb111=(numbers("warmup", "edit_warmup") * num_walked).round(),
            stop_kb111=(numbers("cooldown", "edit_cooldown") * num_walked).round(),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Concepts:
    """The concepts of a batch, and their numbers.

    Attributes:
        names: branches, from the first concept to the last.
        first: index of the first walked step.
        sign_kb111: 1 leads towards a concept, -1 away from it.
        scale_kb111: strength of the guidance.
        threshold_kb111: least value that guides, by the method's measure.
        weight_kb111: weights beside each other.
        start_kb111: walked steps before a concept guides.
        stop_kb111: walked steps after which it no longer does.
    """

    names: Sequence[str]
    first: int
    sign_kb111: "Tensor"
    scale_kb111: "Tensor"
    threshold_kb111: "Tensor"
    weight_kb111: "Tensor"
    start_kb111: "Tensor"
    stop_kb111: "Tensor"

    def is_warm(self, state: StepState) -> "Tensor":
        """Tells which concepts are past their warm-up, kb111."""
        return state.step.index - self.first >= self.start_kb111

    def is_not_cool(self, state: StepState) -> "Tensor":
        """Tells which concepts are before their cool-down, kb111."""
        return state.step.index - self.first < self.stop_kb111

    def predictions(self, state: StepState) -> "Tensor":
        """Returns the prediction of each concept, kbchw."""
        import torch

        return torch.stack([state.predictions[name] for name in self.names])

    def directions(self, state: StepState) -> "Tensor":
        """Returns the way from `negative` to each concept, or from it where reversed, kbchw."""
        return self.sign_kb111 * (self.predictions(state) - state.predictions["negative"])


def concept_names(batch: Batch) -> tuple[str, ...]:
    """Returns the names of the concepts' branches."""
    return tuple(f"concept_{k}" for k in range(len(_rows(batch)[0])))


def concept_branches(batch: Batch) -> dict[str, BranchInputs]:
    """Returns the branch of each concept, which reads its prompt."""
    columns = zip(concept_names(batch), zip(*_rows(batch), strict=True), strict=True)
    return {
        name: BranchInputs(prompts=batch.prompts([each.prompt for each in concepts]))
        for name, concepts in columns
    }


def row_quantile(values_rn: "Tensor", share_r1: "Tensor") -> "Tensor":
    """Returns a quantile of the last axis, with a share of its own for each row; r1.

    Neighbours are mixed linearly, as `torch.quantile` does, which takes one share for all. Shares
    are held to 0 to 1. r may be several axes.
    """
    ordered = values_rn.sort(dim=-1).values
    place = share_r1.clamp(0.0, 1.0) * (values_rn.shape[-1] - 1)
    below, above = place.floor().long(), place.ceil().long()
    return ordered.gather(-1, below).lerp(ordered.gather(-1, above), place - below)


def _rows(batch: Batch) -> list[list[EditConcept]]:
    return [request.values[EDIT_CONCEPTS.name] for request in batch.requests]
