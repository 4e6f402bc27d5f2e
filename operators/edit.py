"""`edit`: changes the source as asked, by one of the methods in `operators/methods`.

A model sees a picture of its own resolution: the whole source, or a square around the mask. Its
answer comes back at the source's size; where there is a mask, every pixel outside is the source's.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.method import Editor, Job, Method
from overpaint.operators.framing.frame import Fit, Frame, paste, view, view_mask
from overpaint.operators.framing.region import (
    Region,
    editable_region,
    frame_row,
    is_empty,
    picture_bucket,
    source_mask,
)
from overpaint.operators.invert import Invert
from overpaint.operators.methods import find_method
from overpaint.operators.models.checkpoint import Checkpoint
from overpaint.operators.models.device import DtypeName
from overpaint.pipeline.columns import (
    CHECKPOINT,
    EDITED_IMAGE,
    HEIGHT_PX,
    IMAGE_FORMAT,
    INVERSION,
    MASK_IMAGE,
    METHOD,
    PARAMS_JSON,
    REVISION,
    SEED,
    SOURCE_IMAGE,
    WIDTH_PX,
    Column,
    Row,
)
from overpaint.pipeline.errors import RowError, near_miss
from overpaint.pipeline.identity import canonical_json
from overpaint.pipeline.images import Picture, Pixels, decode, encode
from overpaint.pipeline.operator import Kind, ModelOperator, NewColumns, Rejected
from pydantic import Field, model_validator


@dataclass(frozen=True, kw_only=True, slots=True)
class _Placed:
    """A row's job and how its result is pasted back."""

    job: Job
    frame: Frame
    region: Region | None


class Edit(ModelOperator[Any, _Placed, NDArray[np.float32]]):
    """Edits each source; a field that is null takes the method's own default."""

    kind: ClassVar[Kind] = "edit"

    method: str = "ddim"
    """A module of `operators/methods`."""
    checkpoint: str = "papercut"
    """The weights: "papercut", a folder, or a hub id."""
    revision: str | None = None
    """Commit, tag or branch of a hub id."""
    variant: str | None = None
    """Variant of the weight files, such as `fp16`."""
    dtype: DtypeName = "float32"
    """Number type of the weights."""
    batch_size: int = Field(default=8, ge=1, le=4096)
    """Rows in one model call."""
    num_threads: int = Field(default=1, ge=1, le=256)
    """CPU threads of a model call; they change the last digit."""

    mask_grow_px: int = Field(default=4, ge=0, le=512)
    """Pixels of the model's picture that are added around the mask."""
    feather_px: int = Field(default=4, ge=0, le=512)
    """Pixels of the model's picture over which the edit fades in, inside the grown mask's edge."""
    paste_back: bool = True
    """Whether every pixel outside the grown mask is the source's own."""

    num_inference_steps: int | None = Field(default=None, ge=1, le=1000)
    """Steps from noise to picture."""
    guidance_scale: float | None = Field(default=None, ge=0, le=100)
    """How closely the prompt is followed; 1 is unguided."""
    guidance_rescale: float | None = Field(default=None, ge=0, le=1)
    """How far a guided answer's spread is pulled back to the unguided one's."""
    image_guidance_scale: float | None = Field(default=None, ge=0, le=100)
    """How closely an instruction editor keeps to the source."""
    strength: float | None = Field(default=None, gt=0, le=1)
    """How far towards noise the edit starts; 1 is from pure noise."""
    negative_prompt: str | None = None
    """What to stay away from."""
    cross_attention_share: float | None = Field(default=None, ge=0, le=1)
    """The share of the steps, from the first on, in which words look where the source's did."""
    fit: Fit | None = None
    """`whole` shows the model the whole image, `crop` a square around the mask."""
    crop_margin: float | None = Field(default=None, ge=0.125, le=8)
    """Context around the mask on each side, as a share of the masked box's longer side."""
    resolution: int | None = Field(default=None, ge=0, le=8192)
    """Side in pixels of the square that the model sees; 0 is the checkpoint's own."""

    @model_validator(mode="before")
    @classmethod
    def _take_defaults(cls, data: Any) -> Any:
        """Fills in the method's defaults, so that a resolved recipe says what was done."""
        if not isinstance(data, Mapping):
            return data
        name = data.get("method", cls.model_fields["method"].default)
        if not isinstance(name, str):
            return data
        method = find_method(name)
        defaults = {field.name: field.default for field in fields(method.fields)}
        given = {key: value for key, value in data.items() if value is not None}
        for key in given:
            _check_used(method, key)
        return {**defaults, **given}

    @property
    def settings(self) -> Any:
        """The fields that the method uses, as its own dataclass."""
        method = find_method(self.method)
        return method.fields(**{name: getattr(self, name) for name in method.field_names})

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source, what to make, the seed of a method that draws, and what the method reads."""
        method = find_method(self.method)
        mask = (MASK_IMAGE,) if self.fit == "crop" else ()
        seed = (SEED,) if method.is_random else ()
        source = (SOURCE_IMAGE, WIDTH_PX, HEIGHT_PX)
        return (*source, method.prompt, *seed, IMAGE_FORMAT, *method.inputs, *mask)

    @property
    def optional(self) -> tuple[Column, ...]:
        """The mask: where a plan has one, the edit is kept to it."""
        return () if MASK_IMAGE in self.inputs else (MASK_IMAGE,)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The edited image and how it was made."""
        return (EDITED_IMAGE, METHOD, CHECKPOINT, REVISION, PARAMS_JSON)

    def check(self) -> None:
        """Looks whether the checkpoint is there and is of a kind that the method takes.

        Raises:
            ValueError: it is not.
        """
        self._weights.check(find_method(self.method).classes)

    def revisions(self) -> dict[str, str]:
        """The exact weights."""
        return {"checkpoint": self._weights.identity()}

    def bucket(self, row: Row) -> Hashable:
        """The shape of the picture that the model sees."""
        inversion = row.get("inversion")
        if inversion is not None:
            return inversion.frame.size, inversion.num_inference_steps
        return picture_bucket(row, find_method(self.method).shapes, self.fit or "whole")

    def load(self) -> Editor:
        """The method's model, shared with an `invert` that uses the same checkpoint."""
        return find_method(self.method).load(self._weights)

    def relieve(self, model: Any, *, exact: bool) -> str | None:
        """Does what the method's model can do without memory."""
        return find_method(self.method).relieve(model, exact)

    def prepare(self, row: Row, model: Any) -> _Placed:
        """Returns a row as the method sees it.

        Raises:
            RowError: `prompt_missing`, `inversion_mismatch`, or an image that cannot be decoded.
        """
        return self._place(row, find_method(self.method), model)

    def infer(self, inputs: Sequence[_Placed], model: Any) -> Sequence[NDArray[np.float32]]:
        """Edits a batch of sources of one shape."""
        jobs = [placed.job for placed in inputs]
        return find_method(self.method).edit(jobs, model, self.settings)

    def answer(
        self, row: Row, placed: _Placed, edited: NDArray[np.float32], model: Any
    ) -> NewColumns | Rejected:
        """Pastes the edit into the source; an empty mask is rejected with `mask_empty`.

        Raises:
            RowError: `nan_in_result`.
        """
        return self._answer(model, row, placed, edited)

    @property
    def _weights(self) -> Checkpoint:
        return Checkpoint(
            name=self.checkpoint,
            revision=self.revision,
            variant=self.variant,
            dtype=self.dtype,
            part=find_method(self.method).part,
        )

    def _place(self, row: Row, method: Method, model: Editor) -> _Placed:
        prompt = row.get(method.prompt.name)
        if prompt is None:
            raise RowError("prompt_missing", f"method {method.name!r} reads {method.prompt.name}")
        source = decode(row["source_image"])
        frame = self._frame(row, method, model)
        mask = source_mask(row, source)
        region = None
        if mask is not None:
            region = editable_region(mask, frame, self.mask_grow_px, self.feather_px)
        job = Job(
            picture=view(frame, source.rgb),
            mask=None if region is None else view_mask(frame, region.grown),
            prompt=prompt,
            seed=row.get("seed", 0),
            inversion=row["inversion"] if INVERSION in method.inputs else None,
        )
        return _Placed(job=job, frame=frame, region=region)

    def _frame(self, row: Row, method: Method, model: Editor) -> Frame:
        if INVERSION in method.inputs:
            return row["inversion"].frame
        resolution_px = self.resolution or model.resolution_px
        return frame_row(
            row,
            method.shapes,
            self.fit or "whole",
            resolution_px,
            model.multiple_px,
            self.crop_margin or 0.25,
        )

    def _answer(
        self, model: Editor, row: Row, placed: _Placed, edited: NDArray[np.float32]
    ) -> NewColumns | Rejected:
        region = placed.region
        if region is not None and is_empty(region.grown):
            return Rejected("mask_empty", "the mask marks nothing that may change")
        alpha = None if region is None or not self.paste_back else region.alpha
        picture = _paste(decode(row["source_image"]), placed.frame, edited, alpha)
        return {
            "edited_image": encode(picture, row["image_format"]),
            "method": self.method,
            "checkpoint": self.checkpoint,
            "revision": model.identity,
            "params_json": canonical_json(
                {
                    **self.model_dump(mode="json", exclude_none=True),
                    **({"relieved": list(model.relieved)} if model.relieved else {}),
                }
            ),
        }


_GENERAL = frozenset(
    {
        "method",
        "checkpoint",
        "revision",
        "variant",
        "dtype",
        "batch_size",
        "num_threads",
        "mask_grow_px",
        "feather_px",
        "paste_back",
    }
)


def _check_used(method: Method, name: str) -> None:
    used = {*_GENERAL, *method.field_names}
    if name not in Edit.model_fields or name in used:
        return
    if INVERSION in method.inputs and name in Invert.model_fields:
        raise ValueError(f"{name}: method {method.name!r} takes it from invert: set it there")
    raise ValueError(f"{name} is not used by method {method.name!r}: {near_miss(name, used)}")


def _paste(
    source: Picture, frame: Frame, edited: NDArray[np.float32], alpha: Pixels | None
) -> Picture:
    if not bool(np.isfinite(edited).all()):
        raise RowError("nan_in_result", "the edited picture holds values that are not finite")
    pixels = np.clip(np.rint(edited), 0, 255).astype(np.uint8)
    return Picture(paste(frame, source.rgb, pixels, alpha), source.alpha, source.icc_profile)
