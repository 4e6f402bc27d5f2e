"""Score: how well an edit follows its prompt, and how well it keeps the rest.

The four CLIP similarities are InstructPix2Pix's: the direction of an edit is the difference of
normalised embeddings. Their usual thresholds hold for openai/clip-vit-large-patch14 alone. What has
no value (a missing prompt, an unchanged image, no background) is null, never a number.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from overpaint.operators.measures import preservation
from overpaint.operators.measures.pair import MASKS, PAIR, Pair, pair_of
from overpaint.operators.models import clip
from overpaint.operators.models.clip import Embedding, similarity
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.uses_checkpoint import UsesCheckpoint
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row, first_text
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.images import decode
from overpaint.pipeline.operator import Kind, ModelOperator, NewColumns, Operator
from PIL import Image

CLIP_SIM_SOURCE = c.score("clip_sim_source", "cosine of the source and its prompt, by CLIP")
CLIP_SIM_TARGET = c.score("clip_sim_target", "cosine of the edited image and its prompt, by CLIP")
CLIP_SIM_DIR = c.score("clip_sim_dir", "cosine of the change in pixels and in words, by CLIP")
CLIP_SIM_IMAGE = c.score("clip_sim_image", "cosine of the source and the edited image, by CLIP")
BACKGROUND_PSNR_DB = c.score("background_psnr_db", "PSNR outside the editable mask, at most 100 dB")
BACKGROUND_SSIM = c.score("background_ssim", "structural similarity outside the mask, up to 1")
BACKGROUND_MSE = c.score("background_mse", "mean squared difference outside the mask, 0 to 1")
CHANGE_MEAN = c.score("change_mean", "mean of |edited - source|, 0 to 1")
CHANGE_FRAC = c.score("change_frac", "share of the pixels that differ by more than 8 of 255")
EDIT_LOCALITY = c.score("edit_locality", "share of the change inside the mask, 0 to 1")

CLIP_PROMPT_TOKENS_CUT = c.tokens_cut(
    "clip_prompt", "tokens of the row's two prompts beyond what CLIP sees; the most of either"
)

_CLIP_COLUMNS = (CLIP_SIM_SOURCE, CLIP_SIM_TARGET, CLIP_SIM_DIR, CLIP_SIM_IMAGE)
_PIXEL_COLUMNS = (
    BACKGROUND_PSNR_DB,
    BACKGROUND_SSIM,
    BACKGROUND_MSE,
    CHANGE_MEAN,
    CHANGE_FRAC,
    EDIT_LOCALITY,
)


class _Measured(NamedTuple):
    """Measurements of a row's images, in place of the images: large ones would fill memory.

    Attributes:
        scores: pixel scores by column.
        squares: the source and the edited image as CLIP sees them; none without CLIP.
        texts: words for the source and for the edited image; empty where the row has none.
        tokens_cut: the most tokens that CLIP does not see of either text.
    """

    scores: dict[str, Any]
    squares: tuple[Image.Image, ...]
    texts: tuple[str, str]
    tokens_cut: int


class _Embedded(NamedTuple):
    """Embeddings of a row by CLIP.

    Attributes:
        source: the source image.
        edited: the edited image.
        before: the words for the source.
        after: the words for the edited image.
    """

    source: Embedding
    edited: Embedding
    before: Embedding
    after: Embedding


class Score(
    UsesCheckpoint[Pretrained | None],
    ModelOperator[Pretrained | None, _Measured, _Embedded | None],
):
    """Measures each edit against its prompts and its source."""

    kind: ClassVar[Kind] = "score"
    part: ClassVar[str] = "clip"

    use_clip: bool = True
    """Whether the CLIP similarities are computed; without them no model is loaded."""

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Both images."""
        return PAIR

    @property
    def optional(self) -> tuple[Column, ...]:
        """The mask, and what may serve as the two prompts."""
        prompts = (c.SOURCE_PROMPT, c.CAPTION, c.TARGET_PROMPT, c.INSTRUCTION)
        return (*MASKS, *(prompts if self.use_clip else ()))

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The scores."""
        clip_columns = (*_CLIP_COLUMNS, CLIP_PROMPT_TOKENS_CUT) if self.use_clip else ()
        return (*clip_columns, *_PIXEL_COLUMNS)

    def check(self) -> None:
        """Checks that the CLIP is there, where it is used."""
        if self.use_clip:
            super().check()

    def revisions(self) -> dict[str, str]:
        """Returns the weights of the CLIP, where it is used."""
        return super().revisions() if self.use_clip else {}

    def load(self) -> Pretrained | None:
        """Loads the CLIP, where it is used."""
        return clip.load(self.weights) if self.use_clip else None

    def cost(self, row: Row, sources: Mapping[str, Operator[Any]]) -> Cost:
        """Returns two images and two texts for CLIP, where it is used."""
        del row, sources
        return Cost(clip=4 if self.use_clip else 0)

    def prepare(self, row: Row, model: Pretrained | None) -> _Measured:
        """Measures the pixels and scales both images for CLIP."""
        source, edited = decode(row["source_image"]), decode(row["edited_image"])
        before = first_text(row, c.SOURCE_PROMPT, c.CAPTION) or ""
        after = first_text(row, c.TARGET_PROMPT, c.INSTRUCTION) or ""
        squares, tokens_cut = tuple[Image.Image, ...](), 0
        if model is not None:
            squares = (clip.square(model, source.image()), clip.square(model, edited.image()))
            tokens_cut = max(clip.text_length(model, text).num_cut for text in (before, after))
        pixel_scores = _pixel_scores(pair_of(source, edited, row))
        return _Measured(pixel_scores, squares, (before, after), tokens_cut)

    def infer(
        self, inputs: Sequence[_Measured], model: Pretrained | None
    ) -> list[_Embedded] | list[None]:
        """Returns the embeddings of each row's images and texts; None without CLIP."""
        if model is None:
            return [None] * len(inputs)
        # A row without a prompt keeps its place in the call, and then has no score.
        return [
            _Embedded(*embeddings)
            for embeddings in zip(
                clip.embed_images(model, [measured.squares[0] for measured in inputs]),
                clip.embed_images(model, [measured.squares[1] for measured in inputs]),
                clip.embed_texts(model, [measured.texts[0] for measured in inputs]),
                clip.embed_texts(model, [measured.texts[1] for measured in inputs]),
                strict=True,
            )
        ]

    def answer(
        self, row: Row, measured: _Measured, embedded: _Embedded | None, model: Pretrained | None
    ) -> NewColumns:
        """Returns the scores."""
        del row, model
        if embedded is None:
            return measured.scores
        return {
            **_similarities(embedded, measured.texts),
            CLIP_PROMPT_TOKENS_CUT.name: measured.tokens_cut,
            **measured.scores,
        }


def _pixel_scores(pair: Pair) -> dict[str, Any]:
    change = preservation.measure(*pair)
    return {
        BACKGROUND_PSNR_DB.name: change.background_psnr_db,
        BACKGROUND_SSIM.name: change.background_ssim,
        BACKGROUND_MSE.name: change.background_mse,
        CHANGE_MEAN.name: change.mean,
        CHANGE_FRAC.name: change.share,
        EDIT_LOCALITY.name: change.locality,
    }


def _similarities(embedded: _Embedded, texts: tuple[str, str]) -> dict[str, Any]:
    """Returns the scores by CLIP; null where a text is missing or nothing differs.

    Raises:
        RowError: `clip_not_finite`.
    """
    clip.check_finite(embedded)
    source, edited, before, after = embedded
    has_before, has_after = map(bool, texts)
    has_both = has_before and has_after
    return {
        CLIP_SIM_SOURCE.name: similarity(source, before) if has_before else None,
        CLIP_SIM_TARGET.name: similarity(edited, after) if has_after else None,
        CLIP_SIM_DIR.name: similarity(edited - source, after - before) if has_both else None,
        CLIP_SIM_IMAGE.name: similarity(source, edited),
    }
