"""Every column a row can carry: its name, its Arrow type, and one sentence.

A row is one edit on its way through a plan: a mapping from column names to values. Columns are only
added, each by one stage. Operators may declare columns of their own; those named here have a fixed
meaning that several parts rely on. Pictures that steer an edit are declared in `conditions`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

Scope = Literal["manifest", "stream", "group", "run"]
"""Reach of a column.

- `manifest`: kept in the manifest of the run
- `stream`: passed from stage to stage (encoded images), never kept in the manifest
- `group`: a live object, such as the state of an inversion, that never leaves its actor
- `run`: the same for every row of a run; set by the runner
"""

Row = Mapping[str, Any]
"""One edit on its way through the stages."""


@dataclass(frozen=True, slots=True)
class Column:
    """A named, typed value of a row.

    Attributes:
        name: the column's name in tables and rows.
        type: Arrow type of its values.
        doc: one sentence for users.
        scope: how far it travels.
    """

    name: str
    type: pa.DataType
    doc: str
    scope: Scope = "manifest"


def _text(name: str, doc: str) -> Column:
    return Column(name, pa.string(), doc)


def _image(name: str, doc: str) -> Column:
    return Column(name, pa.binary(), doc, "stream")


def score(name: str, doc: str) -> Column:
    """Returns a column for a figure that an operator measures; null where it cannot be measured.

    Example:
        >>> score("sharpness", "variance of the Laplacian").type
        DataType(double)
    """
    return Column(name, pa.float64(), doc)


_TOKENS_CUT = "tokens_cut"


def tokens_cut(name: str, doc: str) -> Column:
    """Returns a column for the tokens of a text that a text encoder does not see.

    0 stands for a text that is seen whole; the report tells of the others.

    Args:
        name: kind of the text.
        doc: one sentence for users.

    Example:
        >>> tokens_cut("prompt", "tokens that nobody sees").name
        'prompt_tokens_cut'
    """
    return Column(f"{name}_{_TOKENS_CUT}", pa.int32(), doc)


def tells_tokens_cut(column: Column) -> bool:
    """Tells whether a column is one that `tokens_cut` has made."""
    return column.name.endswith(f"_{_TOKENS_CUT}") and column.type == pa.int32()


def is_missing(value: Any) -> bool:
    """Tells whether a value is none: null, or a text of nothing but white space."""
    return value is None or (isinstance(value, str) and not value.strip())


def first_text(row: Row, *columns: Column) -> str | None:
    """Returns the first text that a row has in some columns; None where all are missing."""
    texts = (row.get(column.name) for column in columns)
    return next((text for text in texts if not is_missing(text)), None)


# Set by the runner in every row.
BASE_URI = Column("base_uri", pa.string(), "folder or prefix of the input's relative URIs", "run")
RUN_URI = Column("run_uri", pa.string(), "the run folder", "run")
IMAGE_FORMAT = Column("image_format", pa.string(), "png, jpg or webp: how images are stored", "run")
IS_PACKED = Column(
    "is_packed",
    pa.bool_(),
    "whether the runner packs the pictures that a row stores: a stage names their members alone",
    "run",
)

# Set by planning.
KEY = _text("key", "the identity of this edit: 32 hex digits")
SOURCE_URI = _text("source_uri", "where the source image is, as the input says")
GROUP_ID = _text("group_id", "equal for all edits of one source")
CANDIDATE = Column("candidate", pa.int32(), "0, 1, ... for several tries at one edit")
SEED = Column("seed", pa.int64(), "the seed of the row's generator, 0 to 2**63-1")
TAR_SPANS = Column(
    "in_tar_spans",
    pa.list_(pa.struct([("uri", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])),
    "first byte and size of each picture of the row that is a member of a tar, by its address",
    "stream",
)

# What the input says beside the source.
INSTRUCTION = _text("instruction", "what to change, in words")
SOURCE_PROMPT = _text("source_prompt", "a description of the source")
TARGET_PROMPT = _text("target_prompt", "a description of the edited image")
EDIT_TYPE = _text("edit_type", "one of the survey's edit types")
INPUT_MASK_URI = _text("in_mask_uri", "the `mask_uri` of the input: a mask that the user drew")
MASK_PHRASE = _text("mask_phrase", "what to look for in the source when a mask is made")
SOURCE_CLASS = _text("source_class", "the word for what the edit changes, such as `calm`")
TARGET_CLASS = _text("target_class", "the word for what it becomes, such as `happy`")
BOXES = Column(
    "boxes",
    pa.list_(pa.struct([("label", pa.string()), ("box", pa.list_(pa.float64()))])),
    "labelled boxes of the edited image: left, top, right, bottom, px of the source",
)
POINTS = Column(
    "points",
    pa.list_(pa.list_(pa.float64())),
    "drags as [from_x, from_y, to_x, to_y], px of the source",
)
EDIT_CONCEPTS = Column(
    "edit_concepts",
    pa.list_(
        pa.struct(
            [
                ("prompt", pa.string()),
                ("reverse", pa.bool_()),
                ("guidance_scale", pa.float64()),
                ("threshold", pa.float64()),
                ("weight", pa.float64()),
                ("warmup", pa.float64()),
                ("cooldown", pa.float64()),
            ]
        )
    ),
    "concepts to add, or to remove where `reverse`; a null part is the recipe's",
)
STRENGTH = Column("strength", pa.float64(), "how far towards noise; null is the recipe's")
GUIDANCE_SCALE = Column("guidance_scale", pa.float64(), "CFG scale; null is the recipe's")
INPUT_METHOD = _text("in_method", "the `method` of the input: which choice of an edit stage it is")
EDIT_PARAMS = _text("edit_params", "fields of the method for this row, as JSON")

# What stages add.
SOURCE_IMAGE = _image("source_image", "the source, encoded, as fetched")
SOURCE_SHA256 = _text("source_sha256", "SHA-256 of the source's file")
WIDTH_PX = Column("width_px", pa.int32(), "width of the upright source")
HEIGHT_PX = Column("height_px", pa.int32(), "height of the upright source")
CAPTION = _text("caption", "what a captioner says of the source")
MASK_IMAGE = _image("mask_image", "one-channel PNG of the source's size: 255 may change")
KEPT_IMAGE = _image(
    "kept_image", "one-channel PNG of the source's size: 255 never changes, however masks grow"
)
MASK_SOURCE = _text("mask_source", "how the mask was made")
INVERTED_PATH = Column("inverted_path", pa.null(), "the source's trajectory to noise", "group")
INVERTED_RESIDUALS = Column(
    "inverted_residuals", pa.null(), "the source's noisy chain, with each step's residual", "group"
)
INVERTED_PAIR = Column("inverted_pair", pa.null(), "the source's coupled pair of latents", "group")
FITTED_NEGATIVE = Column(
    "fitted_negative", pa.null(), "negative embeddings fitted to the source, by step", "group"
)
FITTED_TEXT = Column(
    "fitted_text", pa.null(), "source embeddings fitted to the source, by step", "group"
)
FITTED_VALUES = Column(
    "fitted_values", pa.null(), "embeddings for attention's values fitted to the source", "group"
)
FITTED_WORDS = Column(
    "fitted_words", pa.null(), "negative and source embeddings fitted to the source", "group"
)
EDITABLE_MASK_IMAGE = _image("editable_mask_image", "the mask that was really editable, a PNG")
EDITED_IMAGE = _image("edited_image", "the edited image, encoded, of the source's size")
METHOD = _text("method", "the editing method")
CHECKPOINT = _text("checkpoint", "the weights that edited")
REVISION = _text("revision", "revision or digest of those weights")
PROMPT_TOKENS_CUT = tokens_cut(
    "prompt", "tokens of the row's prompts beyond what the text encoder sees; the most of any"
)
PARAMS_JSON = _text("params_json", "the editing stages' fields, as canonical JSON")
DRAWN_URI = _text(
    "drawn_uri", "the stored source that a model has drawn, relative to the run folder"
)
EDITED_URI = _text("edited_uri", "the stored edited image, relative to the run folder")
EDITED_SHA256 = _text("edited_sha256", "SHA-256 of the stored edited image")
MASK_URI = _text("mask_uri", "the stored mask, relative to the run folder")
EDITABLE_MASK_URI = _text(
    "editable_mask_uri", "the stored mask that was really editable, relative to the run folder"
)

STORED_SPANS = Column(
    "stored_spans",
    TAR_SPANS.type,
    "first byte and size of each picture that the row has stored in a shard, by its address",
)

# How the row ended.
STATUS = _text("status", "accepted, rejected or failed")
STAGE = _text("stage", "the stage that rejected or failed it")
ERROR_CODE = _text("error_code", "why it failed or was rejected by a stage, in one word")
ERROR_MESSAGE = _text("error_message", "why, in one sentence")
REJECT_REASONS = Column(
    "reject_reasons", pa.list_(pa.string()), "every rule of the policy that the row broke"
)
FINGERPRINT = _text("fingerprint", "identity of the stages that made the pixels: 16 hex digits")

RUNNER_COLUMNS = frozenset(
    column.name
    for column in (
        *(BASE_URI, RUN_URI, IMAGE_FORMAT, IS_PACKED),
        *(KEY, SOURCE_URI, GROUP_ID, CANDIDATE, SEED, STORED_SPANS),
    )
)
"""Names of the columns that planning and the runner set."""

STORED_IMAGES = {
    EDITED_IMAGE.name: EDITED_URI.name,
    MASK_IMAGE.name: MASK_URI.name,
    EDITABLE_MASK_IMAGE.name: EDITABLE_MASK_URI.name,
}
"""Images that `store` writes, with the column that holds the path of the stored object."""

MANIFEST = (
    KEY,
    SOURCE_URI,
    SOURCE_SHA256,
    GROUP_ID,
    CANDIDATE,
    CAPTION,
    INSTRUCTION,
    SOURCE_PROMPT,
    TARGET_PROMPT,
    EDIT_TYPE,
    METHOD,
    CHECKPOINT,
    REVISION,
    PARAMS_JSON,
    SEED,
    EDITED_URI,
    EDITED_SHA256,
    MASK_URI,
    EDITABLE_MASK_URI,
    MASK_SOURCE,
    WIDTH_PX,
    HEIGHT_PX,
    STATUS,
    STAGE,
    ERROR_CODE,
    ERROR_MESSAGE,
    REJECT_REASONS,
    FINGERPRINT,
)
"""The columns every manifest has, in order; an operator's own come after them."""

INPUT = (INSTRUCTION, SOURCE_PROMPT, TARGET_PROMPT, EDIT_TYPE, MASK_PHRASE, CAPTION)
"""Columns that an input table may give under their own names."""
