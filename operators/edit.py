"""`edit`: changes the source as asked, by one of the methods in `operators/methods`.

A model sees a picture of its own resolution: the whole source, or a square around the mask. Its
picture comes back at the source's size; where there is a mask, every pixel outside is the source's.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.auto import AUTO, EXPANDING, auto_stages
from overpaint.operators.diffusion.edit_choices import with_choices
from overpaint.operators.diffusion.edit_input import EditInput
from overpaint.operators.diffusion.edit_row import (
    call_size,
    check_vary,
    inverted_steps,
    params_json,
    pasted,
    read_column,
    row_frame,
    row_prompt,
    row_settings,
    row_values,
)
from overpaint.operators.diffusion.method import Edited, Editor, Method, needs_inversion
from overpaint.operators.diffusion.prompt_length import LimitsPrompts
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.diffusion.routing import check_routes, dispensable, route_columns, routed
from overpaint.operators.framing.frame import view, view_mask
from overpaint.operators.framing.region import (
    editable_region,
    is_empty,
    kept_mask,
    picture_bucket,
    source_mask,
)
from overpaint.operators.inversions import INVERSIONS
from overpaint.operators.methods import METHODS
from overpaint.operators.models.uses_checkpoint import UsesPipeline
from overpaint.operators.models.weights import Checkpoint
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.conditions import MASK, REFERENCES
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import RowError, near_miss
from overpaint.pipeline.images import decode, encode, encode_mask
from overpaint.pipeline.operator import (
    IN_FINGERPRINT_UNLESS_DEFAULT,
    NOT_IN_FINGERPRINT,
    Calls,
    Kind,
    ModelOperator,
    NewColumns,
    Operator,
    Rejected,
)
from overpaint.pipeline.variant import Variant, VariantOperator
from pydantic import Field, WithJsonSchema, model_validator

Editors = Mapping[str, Editor]
"""Loaded models by the name of the choice that uses them; the stage's own has the name ''."""


class Edit(
    LimitsPrompts,
    UsesPipeline[Editors],
    VariantOperator[Editors],
    ModelOperator[Editors, EditInput, NDArray[np.float32]],
):
    """Edits each source by a method; fields beside those below are the method's.

    Rows may choose their method: `choices` names settings, and the column `method` of the input
    says which of them a row takes. The key of such a row is that of a stage with only that method.

    Example:
        >>> Edit(method="sdedit", strength=0.5).settings.strength
        0.5
    """

    kind: ClassVar[Kind] = "edit"
    variants = METHODS
    default_method = "prompt_to_prompt"
    expanding = EXPANDING
    renamed: ClassVar[Mapping[str, str]] = {"mask_grow_px": "mask_dilate_px"}

    mask_dilate_px: int = Field(default=4, ge=0, le=512)
    """Width by which the mask is dilated, in pixels of the model's picture."""
    feather_px: int = Field(default=4, ge=0, le=512)
    """Width over which the edit fades in inside the dilated mask's edge, in pixels of the model's
    picture."""
    paste_back: bool = True
    """Whether every pixel outside the dilated mask is the source's own."""
    vary: dict[str, tuple[bool | int | float | str, ...]] = Field(
        default={}, json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT
    )
    """Values of the method's fields of which a row takes one by its seed, so that candidates differ
    in more than their noise: `{ guidance_scale = [2, 3, 4] }`. Rows of unlike values do not share a
    call: a few values cost less than many."""
    choices: Annotated[
        dict[str, "Edit"],
        WithJsonSchema({"type": "object", "additionalProperties": {"type": "object"}}),
    ] = Field(default_factory=dict)
    """Settings that a row may choose by its column `method`, by name; a name of a method needs no
    `method`. The operator's fields at this stage hold for them, where they do not say otherwise."""
    default_choice: str = ""
    """Choice of rows that name none; empty stands for the first."""
    routes: dict[str, tuple[str, ...]] = Field(
        default={}, json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT
    )
    """Choices of rows that name none, by their `edit_type`, the preferred first: a row takes the
    first whose words and conditions it has. `color+mask` is the type `color` of rows with a mask.
    """
    routes_from: str = Field(default="", json_schema_extra=NOT_IN_FINGERPRINT)
    """Digest of the table of methods that the routes are from; empty where they are written."""

    @model_validator(mode="before")
    @classmethod
    def _fill_choices(cls, data: Any) -> Any:
        """Gives each choice the operator's fields of the stage, whose method is then theirs."""
        fields: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
        if fields.get("method") == AUTO:
            raise ValueError("method = 'auto' stands for several stages: write it into a recipe")
        return with_choices(cls, fields) if fields.get("choices") else data

    @model_validator(mode="after")
    def _choices_fit(self) -> "Edit":
        if self.default_choice and not self.choices:
            raise ValueError(f"default_choice = {self.default_choice!r}: there are no choices")
        check_routes(self.routes, self._methods)
        check_vary(self.own, self.vary)
        for name, choice in self.choices.items():
            if choice.choices:
                raise ValueError(f"choices.{name} has choices of its own")
            for field in ("batch_size", "num_threads"):
                if getattr(choice, field) != getattr(self, field):
                    raise ValueError(f"choices.{name}.{field}: it is that of the stage")
        return self

    @classmethod
    def expanded(cls, table: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Returns the stages that `method = "auto"` stands for, see `operators.diffusion.auto`."""
        return auto_stages(table) if table.get("method") == AUTO else super().expanded(table)

    @classmethod
    def explain_unused(cls, kind: type[Variant], field: str) -> str | None:
        """Explains a field that belongs to the inversion, or to another method."""
        inversions = [INVERSIONS.find(name) for name in INVERSIONS.names()]
        is_inverted = issubclass(kind, Method) and needs_inversion(kind)
        if is_inverted and any(field in inversion.model_fields for inversion in inversions):
            name = cls.variants.name_of(kind)
            return f"{field}: method {name!r} takes it from the stage `invert`: set it there"
        return super().explain_unused(kind, field)

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The source, and what the methods read."""
        every = dict.fromkeys(column for edit in self._edits.values() for column in edit._inputs)
        spared = dispensable(self._methods) if self.routes else frozenset[Column]()
        return tuple(column for column in every if column not in spared)

    @property
    def optional(self) -> tuple[Column, ...]:
        """The mask, to which an edit is kept, and columns that rows may have of their own."""
        edits = self._edits.values()
        columns = [column for edit in edits for column in (*edit._optional, *edit._inputs)]
        every = dict.fromkeys((*self.choice_columns, *columns))
        return tuple(column for column in every if column not in self.inputs)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The edited image, the mask that was editable, and how the image was made."""
        made = (c.METHOD, c.CHECKPOINT, c.REVISION, c.PARAMS_JSON, c.PROMPT_TOKENS_CUT)
        return (c.EDITED_IMAGE, c.EDITABLE_MASK_IMAGE, *made)

    @property
    def has_settings(self) -> bool:
        """True where rows do not choose their method."""
        return not self.choices

    @property
    def own(self) -> Method:
        """The method on its checkpoint; where rows choose, that of the rows that name none."""
        assert isinstance(self.settings, Method)
        return self.settings.for_checkpoint(self.checkpoint)

    @property
    def _edits(self) -> Mapping[str, "Edit"]:
        """The edits that a row may choose among, by name; where it may not, itself as ''."""
        return self.choices or {"": self}

    @property
    def _inputs(self) -> tuple[Column, ...]:
        method = self.own
        needs = map(read_column, (*method.needed, *self.weights.conditions))
        mask = (c.MASK_IMAGE,) if method.framed.fit == "crop" else ()
        seed = (c.SEED,) if method.reads_seed or self.vary else ()
        prompt = () if method.prompt is None else (method.prompt,)
        source = (c.SOURCE_IMAGE, c.WIDTH_PX, c.HEIGHT_PX)
        return (*source, *prompt, *seed, c.IMAGE_FORMAT, *needs, *mask)

    @property
    def _optional(self) -> tuple[Column, ...]:
        method = self.own
        fields = type(method).model_fields
        own = [column for column in (c.STRENGTH, c.GUIDANCE_SCALE) if column.name in fields]
        return (
            c.MASK_IMAGE,
            c.KEPT_IMAGE,
            c.EDIT_PARAMS,
            *own,
            *(read_column(use) for use in method.used),
            *((REFERENCES.input,) if REFERENCES in method.used else ()),  # counted when planned
        )

    @property
    def choice_columns(self) -> tuple[Column, ...]:
        """The columns by which a row chooses its method."""
        routed = route_columns(self._methods) if self.routes else ()
        return (c.INPUT_METHOD, *routed) if self.choices else ()

    @cached_property
    def _methods(self) -> Mapping[str, Method]:
        return {name: choice.own for name, choice in self.choices.items()}

    def for_row(self, row: Row) -> "Edit":
        """Returns the edit that a row chooses.

        Raises:
            RowError: `method_unknown`: there is no such choice.
        """
        return self.choices[self.choice_of(row)] if self.choices else self

    def choice_of(self, row: Row) -> str:
        """Returns the choice that a row names, else the one of its route, else the default.

        Raises:
            RowError: `method_unknown`: there is no such choice.
        """
        if not self.choices:
            return ""
        named = row.get("in_method") or routed(self.routes, self._methods, row)
        name = named or self.default_choice
        if name not in self.choices:
            hint = near_miss(name, self.choices)
            raise RowError("method_unknown", f"the stage has no choice {name!r}: {hint}")
        return name

    def check(self) -> None:
        """Checks that the checkpoints are there and of kinds that their methods take.

        Raises:
            ValueError: one of them is not.
        """
        for edit in self._edits.values():
            kinds = edit.own.checkpoints
            if edit.own.papercut is None and kinds and edit.checkpoint == "papercut":
                raise ValueError(
                    f"method {edit.method!r} takes a {' or '.join(kinds)}, and "
                    "papercut has none: name a checkpoint"
                )
            edit.own.check_weights(edit.weights)
            edit.own.check_batch(self.batch_size)

    def revisions(self) -> dict[str, str]:
        """Returns the exact weights."""
        own = {
            f"{name}.{weights}" if name else weights: revision
            for name, edit in self._edits.items()
            for weights, revision in edit.own.revisions().items()
        }
        models = {
            name or "checkpoint": edit.own.weights_identity(edit.weights)
            for name, edit in self._edits.items()
        }
        return {**models, **own}

    @property
    def reproducible(self) -> bool:
        """True where every method is that a row may choose."""
        return all(edit.own.reproducible for edit in self._edits.values())

    def notes(self, model: Editors) -> dict[str, Any]:
        """Returns what the loaded models have found out, by the name of the choice or method."""
        notes = {n or self.method: self._edits[n].own.notes(model[n]) for n in model}
        return {name: found for name, found in notes.items() if found}

    def cost(self, row: Row, sources: Mapping[str, Operator[Any]]) -> Cost:
        """Returns the network evaluations for one row, by its method."""
        edit = self.for_row(row)
        settings = row_settings(edit.own, row, edit.vary)
        steps = getattr(settings, "num_inference_steps", None)
        if steps is None:
            steps = inverted_steps(settings, sources)
        return edit.with_controls(settings.row_cost(row, steps))

    def bucket(self, row: Row) -> Hashable:
        """Returns the choice, the settings and the shape of the picture that the model sees."""
        edit = self.for_row(row)
        settings = row_settings(edit.own, row, edit.vary)
        if settings.is_hosted:
            return self.choice_of(row), settings.model_dump_json()
        sizes = tuple(
            call_size(row.get(read_column(n).name)) for n in (*settings.needed, *settings.used)
        )
        shape = (
            None
            if needs_inversion(settings)
            else picture_bucket(row, settings.picture_shapes, settings.framed.fit)
        )
        return self.choice_of(row), settings, shape, sizes

    def load(self) -> Editors:
        """Loads the models; an `invert` with the same checkpoint shares them."""
        return {name: edit.own.load(edit.weights) for name, edit in self._edits.items()}

    def free_memory(self, model: Editors, *, exact: bool) -> str | None:
        """Frees memory as the methods' models can."""
        edits = self._edits
        words = (edits[name].own.free_memory(editor, exact=exact) for name, editor in model.items())
        return next((word for word in words if word is not None), None)

    def prepare(self, row: Row, model: Editors, /) -> EditInput | Rejected:
        """Frames a row's source, mask and conditions; an empty mask is rejected as `mask_empty`.

        Raises:
            RowError: `prompt_missing`, `prompt_too_long`, `mask_missing`, `inversion_mismatch`, or
                an image that cannot be decoded.
        """
        choice = self.choice_of(row)
        edit = self.for_row(row)
        settings, editor = row_settings(edit.own, row, edit.vary), model[choice]
        prompt = row_prompt(row, settings, edit.method)
        prompts = settings.prompts(row)
        lengths = {name: settings.text_length(text, editor) for name, text in prompts.items()}
        tokens_cut = edit.tokens_cut(lengths)
        source = decode(row["source_image"])
        frame = row_frame(row, settings, editor)
        mask = source_mask(row, source)
        region = None
        if mask is not None:
            kept = kept_mask(row, source)
            region = editable_region(mask, frame, edit.mask_dilate_px, edit.feather_px, kept)
            if is_empty(region.editable):
                return Rejected("mask_empty", "the mask marks nothing that may change")
        elif MASK in settings.needed:
            raise RowError("mask_missing", f"method {edit.method!r} needs a mask")
        request = EditRequest(
            frame=frame,
            picture=view(frame, source.seen),
            mask=None if region is None else view_mask(frame, region.editable),
            prompt=prompt,
            seed=row.get("seed", 0),
            values=row_values(settings, row, frame, editor, edit.weights.conditions),
        )
        return EditInput(
            choice=choice, settings=settings, request=request, region=region, tokens_cut=tokens_cut
        )

    def infer(self, inputs: Sequence[EditInput], model: Editors, /) -> Sequence[Edited]:
        """Edits a batch of one shape and of one method."""
        first = inputs[0]
        return first.settings.edit([item.request for item in inputs], model[first.choice])

    def infer_by(self, inputs: list[EditInput], model: Editors, calls: Calls) -> Sequence[Edited]:
        """Edits a batch in the models' turn; one that a server edits, beside it and unpadded."""
        if inputs[0].settings.is_hosted:
            return self.infer(inputs, model)
        return super().infer_by(inputs, model, calls)

    def answer(
        self, row: Row, input: EditInput, output: NDArray[np.float32], model: Editors, /
    ) -> NewColumns:
        """Pastes the edit into the source.

        Raises:
            RowError: `nan_in_result`.
        """
        edit, editor = self.for_row(row), model[input.choice]
        region = input.region
        alpha = None if region is None or not edit.paste_back else region.alpha
        picture = pasted(decode(row["source_image"]), input.request.frame, output, alpha)
        return {
            "edited_image": encode(picture, row["image_format"]),
            "editable_mask_image": None if region is None else encode_mask(region.editable),
            "method": edit.method,
            "checkpoint": edit.checkpoint,
            "revision": editor.identity,
            "params_json": params_json(edit, input.settings, editor, self.batch_size),
            "prompt_tokens_cut": input.tokens_cut,
        }

    @property
    def weights(self) -> Checkpoint:
        """The checkpoint with its revision, variant and number type."""
        return replace(super().weights, part=getattr(self.settings, "papercut", None) or "")
