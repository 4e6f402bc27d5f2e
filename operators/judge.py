"""Judge: asks a model that sees both pictures how good an edit is, by EditEval's four factors.

The model is any image-text-to-text checkpoint of transformers, or a hosted one behind an
OpenAI-compatible endpoint. A judge's figures are its own: compare edits under one judge and prompt.
"""

from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pyarrow as pa
from overpaint.operators.measures.verdicts import PROMPT, is_refusal, read_verdict
from overpaint.operators.models import chat_endpoint, chat_model
from overpaint.operators.models.chat_endpoint import Endpoint, ForbiddenError, Reply
from overpaint.operators.models.chat_model import PromptTooLongError, Question, Tokens
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.uses_checkpoint import UsesCheckpoint
from overpaint.operators.models.weights import PAPERCUT
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row, first_text
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.identity import sha256
from overpaint.pipeline.images import decode
from overpaint.pipeline.operator import (
    NOT_IN_FINGERPRINT,
    Answer,
    Calls,
    Kind,
    ModelOperator,
    NewColumns,
    row_error_as_answer,
)
from pydantic import Field, model_validator

LMM_ACCURACY = c.score("lmm_accuracy", "the edit does what was asked, 0 to 10, by the judge")
LMM_PRESERVATION = c.score("lmm_preservation", "the rest is as it was, 0 to 10, by the judge")
LMM_QUALITY = c.score("lmm_quality", "the edited image is clean, 0 to 10, by the judge")
LMM_REALISM = c.score("lmm_realism", "the edited image obeys natural laws, 0 to 10, by the judge")
LMM_SCORE = c.score("lmm_score", "0.4 accuracy + 0.3 preservation + 0.2 quality + 0.1 realism")
LMM_STATUS = Column(
    "lmm_status",
    pa.string(),
    "ok, or why there are no scores: parse_error, refused, timeout, unreachable or bad_request",
)
LMM_REPLY = Column("lmm_reply", pa.string(), "what the judge said")
JUDGE_PROMPT_SHA256 = Column(
    "judge_prompt_sha256", pa.string(), "SHA-256 of the question that the judge gets"
)

_INSTRUCTION = "{instruction}"
_FACTORS = (LMM_ACCURACY, LMM_PRESERVATION, LMM_QUALITY, LMM_REALISM)


class Judge(
    UsesCheckpoint[Pretrained | Endpoint], ModelOperator[Pretrained | Endpoint, Tokens, str]
):
    """Scores each edit by EditEval's four factors, as a model sees them."""

    kind: ClassVar[Kind] = "judge"
    part: ClassVar[str] = "judge"

    batch_size: int = Field(default=1, ge=1, le=4096)
    """Edits in one model call; more than one needs max_prompt_tokens."""
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    """Every prompt is padded to this length, its pictures included, so that rows can share a call
    and none depends on another; null pads nothing."""
    max_new_tokens: int = Field(default=256, ge=1, le=8192)
    """Where the model's answer is cut off."""
    image_px: int = Field(default=512, ge=16, le=4096)
    """Pictures whose longer side is longer are scaled down to it."""
    prompt: str | None = None
    """Question, with {instruction} in it; null stands for EditEval's factors in words, and for
    the instruction alone where the checkpoint is papercut's, which was trained on that."""
    endpoint: str | None = None
    """The URL, up to `/v1`, of a hosted model; null runs `checkpoint` here."""
    request: dict[str, Any] = Field(default={"temperature": 0, "max_tokens": 512})
    """What else is sent to the endpoint; `model` names the model."""
    api_key_env: str | None = Field(default=None, json_schema_extra=NOT_IN_FINGERPRINT)
    """The environment variable that holds the endpoint's key; null sends none."""
    timeout_s: float = Field(default=120.0, gt=0, json_schema_extra=NOT_IN_FINGERPRINT)
    """How long the endpoint may be silent, in seconds."""
    attempts: int = Field(default=4, ge=1, le=20, json_schema_extra=NOT_IN_FINGERPRINT)
    """Attempts at one question while the endpoint is late, busy or broken."""
    max_concurrency: int = Field(default=8, ge=1, le=256, json_schema_extra=NOT_IN_FINGERPRINT)
    """Questions on their way to the endpoint at once, from one actor."""

    @model_validator(mode="after")
    def _fields_agree(self) -> "Judge":
        if self.prompt is not None and _INSTRUCTION not in self.prompt:
            raise ValueError(f"prompt = {self.prompt!r} has no {_INSTRUCTION} in it")
        if self.endpoint is None:
            if self.batch_size > 1 and self.max_prompt_tokens is None:
                raise ValueError(
                    f"batch_size = {self.batch_size} needs max_prompt_tokens, the length to which "
                    "prompts are padded"
                )
        elif urlsplit(self.endpoint).scheme not in ("http", "https"):
            raise ValueError(f"endpoint = {self.endpoint!r} is not an http or https URL")
        elif "model" not in self.request:
            raise ValueError('request names no model: give request = { model = "..." }')
        return self

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Both images."""
        return (c.SOURCE_IMAGE, c.EDITED_IMAGE)

    @property
    def optional(self) -> tuple[Column, ...]:
        """The request, and the size of the pictures."""
        return (c.INSTRUCTION, c.TARGET_PROMPT, c.WIDTH_PX, c.HEIGHT_PX)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The factors, their sum, and where they come from."""
        return (*_FACTORS, LMM_SCORE, LMM_STATUS, LMM_REPLY, JUDGE_PROMPT_SHA256)

    @property
    def _prompt(self) -> str:
        if self.prompt is not None:
            return self.prompt
        is_papercut = self.endpoint is None and self.checkpoint == PAPERCUT
        return _INSTRUCTION if is_papercut else PROMPT

    def check(self) -> None:
        """Checks that the model is there, or the endpoint's key."""
        if self.endpoint is None:
            super().check()
        elif self.api_key_env is not None:
            chat_endpoint.read_api_key(self.api_key_env)

    def revisions(self) -> dict[str, str]:
        """Returns the model's weights; nothing is known of a hosted one's."""
        return super().revisions() if self.endpoint is None else {}

    def bucket(self, row: Row) -> Hashable:
        """Returns the size of the pictures: equal ones have equally many tokens."""
        width, height = row.get(c.WIDTH_PX.name), row.get(c.HEIGHT_PX.name)
        return chat_model.fitted(width, height, self.image_px) if width and height else None

    def load(self) -> Pretrained | Endpoint:
        """Loads the model, or reads the endpoint's key."""
        if self.endpoint is None:
            return chat_model.load(self.weights)
        key = chat_endpoint.read_api_key(self.api_key_env) if self.api_key_env is not None else None
        threads = ThreadPoolExecutor(self.max_concurrency, thread_name_prefix="judge")
        return Endpoint(self.endpoint, key, self.request, self.timeout_s, self.attempts, threads)

    def run_by(
        self, rows: Sequence[Row], model: Pretrained | Endpoint, calls: Calls
    ) -> list[Answer]:
        """Asks about each edit: the model in batches of one shape, an endpoint row by row."""
        if not isinstance(model, Endpoint):
            return super().run_by(rows, model, calls)
        ask = partial(row_error_as_answer, self._ask_endpoint)
        return list(model.threads.map(ask, rows, repeat(model)))

    def _ask_endpoint(self, row: Row, endpoint: Endpoint) -> NewColumns:
        try:
            return self._verdict(chat_endpoint.ask(endpoint, self._question(row)))
        except ForbiddenError as error:
            raise RowError("judge_forbidden", f"the judge's {error}") from error

    def prepare(self, row: Row, model: Pretrained | Endpoint) -> Tokens:
        """Returns the question about one edit as the model takes it."""
        assert isinstance(model, Pretrained)
        try:
            return chat_model.tokenize(model, self._question(row), self.max_prompt_tokens)
        except PromptTooLongError as error:
            raise RowError("judge_prompt_too_long", str(error)) from error

    def infer(self, inputs: Sequence[Tokens], model: Pretrained | Endpoint) -> list[str]:
        """Returns the model's reply to each question."""
        assert isinstance(model, Pretrained)
        return chat_model.reply(model, inputs, self.max_new_tokens)

    def answer(
        self, row: Row, tokens: Tokens, reply: str, model: Pretrained | Endpoint
    ) -> NewColumns:
        """Returns the factors that a reply states."""
        del row, tokens, model
        return self._verdict(Reply("ok", reply))

    def _question(self, row: Row) -> Question:
        wanted = first_text(row, c.INSTRUCTION)
        if wanted is None and (prompt := first_text(row, c.TARGET_PROMPT)):
            wanted = f"make it a picture of: {prompt}"
        if wanted is None:
            raise RowError(
                "judge_instruction_missing", "the row has neither an instruction nor target_prompt"
            )
        pictures = (decode(row[column.name]).image() for column in self.inputs)
        return Question(
            tuple(chat_model.fit(picture, self.image_px) for picture in pictures),
            self._prompt.replace(_INSTRUCTION, wanted),
        )

    def _verdict(self, reply: Reply) -> NewColumns:
        verdict = read_verdict(reply.text or "") if reply.status == "ok" else None
        status = reply.status
        if status == "ok" and verdict is None:
            status = "refused" if is_refusal(reply.text or "") else "parse_error"
        factors = (None,) * len(_FACTORS) if verdict is None else tuple(verdict)
        return {
            **{column.name: value for column, value in zip(_FACTORS, factors, strict=True)},
            LMM_SCORE.name: None if verdict is None else verdict.score,
            LMM_STATUS.name: status,
            LMM_REPLY.name: reply.text,
            JUDGE_PROMPT_SHA256.name: sha256(self._prompt.encode()),
        }
