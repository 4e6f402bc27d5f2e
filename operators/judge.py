"""Judge: asks a model that sees the pictures how good an edit is, in one of several forms.

The model is any image-text-to-text checkpoint of transformers, or a hosted one behind an
OpenAI-compatible endpoint. A form of `operators/forms` has the questions, reads the replies, and
declares the columns. A judge's figures are its own: compare edits under one judge and form.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa
from overpaint.operators.forms import FORMS
from overpaint.operators.measures.passes import LMM_PASSES, LMM_STD, averaged
from overpaint.operators.measures.told import Told
from overpaint.operators.measures.verdicts import is_refusal
from overpaint.operators.models import chat_endpoint, chat_model
from overpaint.operators.models.chat_endpoint import Endpoint, ForbiddenError, Reply, by_pass
from overpaint.operators.models.chat_model import PromptTooLongError, Question, Sampling, Tokens
from overpaint.operators.models.endpoint_fields import EndpointFields, check_url
from overpaint.operators.models.judge_form import (
    ALONE_PROMPT,
    COUNT,
    INSTRUCTION,
    REFERENCE_IMAGES,
    FormQuestion,
    Heard,
    JudgeForm,
    wanted_of,
)
from overpaint.operators.models.peft_adapters import PeftAdapter
from overpaint.operators.models.pretrained import Pretrained
from overpaint.operators.models.row_sampling import pass_seed
from overpaint.operators.models.uses_checkpoint import UsesCheckpoint
from overpaint.operators.models.weights import PAPERCUT, Checkpoint
from overpaint.pipeline import columns as c
from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.errors import RowError, UsageError
from overpaint.pipeline.identity import sha256
from overpaint.pipeline.images import decode
from overpaint.pipeline.operator import (
    IN_FINGERPRINT_UNLESS_DEFAULT,
    Answer,
    Calls,
    Kind,
    ModelOperator,
    NewColumns,
    row_error_as_answer,
)
from PIL import Image
from pydantic import Field, field_validator, model_validator

LMM_STATUS = Column(
    "lmm_status",
    pa.string(),
    "ok, or why there are no scores: parse_error, refused, timeout, unreachable, busy, "
    "bad_request or over_budget",
)
LMM_REPLY = Column("lmm_reply", pa.string(), "what the judge said")
JUDGE_PROMPT_SHA256 = Column(
    "judge_prompt_sha256", pa.string(), "SHA-256 of the question that the judge gets"
)

_DEFAULT_FORM = "editeval"


class _Asked(NamedTuple):
    """Questions about one edit as the model takes them, and the seed of words chosen by chance."""

    questions: tuple[Tokens, ...]
    num_pictures: tuple[int, ...]
    seed: int = 0


_Passes = tuple[tuple[Told, ...], ...]
"""Replies to each question, for each pass."""


class Judge(
    UsesCheckpoint[Pretrained | Endpoint],
    EndpointFields,
    ModelOperator[Pretrained | Endpoint, _Asked, _Passes],
):
    """Scores each edit as a model sees it, in one of several forms."""

    kind: ClassVar[Kind] = "judge"
    part: ClassVar[str] = "judge"

    form: str = Field(default=_DEFAULT_FORM, json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT)
    """Questions, reader and columns: editeval, viescore, firm_like, aspects_like, points, pair,
    expected, editeval_comparative_like, or `my_package.module:ClassName`."""
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
    """Question in place of that of a form that has one, with {instruction} in it; null stands for
    the form's own, and for the instruction alone where the checkpoint is papercut's, which was
    trained on that."""
    endpoint: str | None = None
    """The URL, up to `/v1`, of a hosted model; null runs `checkpoint` here."""
    repairs: int = Field(default=0, ge=0, le=3, json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT)
    """Times that an endpoint is asked again, in the same chat, for an answer that can be read."""
    num_passes: int = Field(default=1, ge=1, le=32, json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT)
    """Times that everything is asked, each with a seed of its own: figures are means, and lmm_std
    says how far passes differ. Needs a temperature above 0, an endpoint's in `request`."""
    temperature: float = Field(
        default=0.0, ge=0, le=10, json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT
    )
    """Divisor of the logits by which a model here chooses its words by chance, from the row's seed;
    0 chooses the likeliest. An endpoint's stands in `request`."""
    adapters: tuple[PeftAdapter, ...] = Field(
        default=(), json_schema_extra=IN_FINGERPRINT_UNLESS_DEFAULT
    )
    """LoRAs that are merged into the weights, in order, before the first row, as PEFT saves them:
    `checkpoint`, `revision` and `scale` of each."""

    @field_validator("form")
    @classmethod
    def _is_known(cls, value: str) -> str:
        name = value if ":" in value else value.replace("-", "_")
        try:
            FORMS.find(name)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return name

    @model_validator(mode="after")
    def _fields_agree(self) -> "Judge":
        if self.prompt is not None and INSTRUCTION not in self.prompt:
            raise ValueError(f"prompt = {self.prompt!r} has no {INSTRUCTION} in it")
        num_questions = len(self._form.questions)
        if self.prompt is not None and num_questions > 1:
            raise ValueError(
                f"prompt stands for one question, and form = {self.form!r} asks {num_questions}"
            )
        if self.endpoint is None:
            self._check_local()
            return self
        check_url(self.endpoint)
        for name in ("adapters", "temperature"):
            if getattr(self, name):
                raise ValueError(f"{name} is for a model here, and endpoint = {self.endpoint!r}")
        self._check_passes("request.temperature", self.request.get("temperature", 1))
        if "model" not in self.request:
            raise ValueError('request names no model: give request = { model = "..." }')
        return self

    def _check_passes(self, field: str, temperature: float) -> None:
        if self.num_passes == 1:
            return
        if not self._form.averages:
            raise ValueError(
                f"num_passes = {self.num_passes}: form = {self.form!r} gives no figures to average"
            )
        if not temperature:
            raise ValueError(
                f"num_passes = {self.num_passes} needs {field} above 0, without which passes are "
                "alike"
            )

    def _check_local(self) -> None:
        self._check_passes("temperature", self.temperature)
        if self.batch_size > 1 and self.max_prompt_tokens is None:
            raise ValueError(
                f"batch_size = {self.batch_size} needs max_prompt_tokens, the length to which "
                "prompts are padded"
            )
        if self.repairs:
            raise ValueError(
                f"repairs = {self.repairs} is for an endpoint: a model here answers a question once"
            )

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The images that the form shows."""
        return self._form.pictures()

    @property
    def optional(self) -> tuple[Column, ...]:
        """The request, the size of the pictures, and the seed where words are chosen by chance."""
        chance = (c.SEED,) if self.temperature else ()
        return (c.INSTRUCTION, c.TARGET_PROMPT, c.WIDTH_PX, c.HEIGHT_PX, *chance)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The form's columns, and where they come from."""
        spread = (LMM_STD, LMM_PASSES) if self.num_passes > 1 else ()
        return (*self._form.columns, *spread, LMM_STATUS, LMM_REPLY, JUDGE_PROMPT_SHA256)

    @property
    def _form(self) -> JudgeForm:
        return FORMS.find(self.form)()

    @property
    def weights(self) -> Checkpoint:
        """The checkpoint with its revision, number type and adapters."""
        return replace(super().weights, adapters=self.adapters)

    @property
    def _asks_papercut(self) -> bool:
        return self.endpoint is None and self.checkpoint == PAPERCUT

    @property
    def _questions(self) -> tuple[FormQuestion, ...]:
        """The form's questions, in the words that this judge gets."""
        questions = self._form.questions
        prompt = self.prompt or (ALONE_PROMPT if self._asks_papercut else None)
        return questions if prompt is None else tuple(q._replace(text=prompt) for q in questions)

    def check(self) -> None:
        """Checks that the model is there and answers in this form, or the endpoint's key."""
        if self.endpoint is not None:
            self.check_endpoint()
            return
        if self._asks_papercut and not self._form.papercut_answers:
            raise ValueError(
                f"form = {self.form!r}: papercut's judge was not trained on it: name a checkpoint "
                "or an endpoint"
            )
        super().check()

    def revisions(self) -> dict[str, str]:
        """Returns the model's weights and the form's words; nothing is known of a hosted model."""
        weights = super().revisions() if self.endpoint is None else {}
        own = {} if self.form == _DEFAULT_FORM else {"form": self._form.identity()}
        return {**weights, **own}

    def bucket(self, row: Row) -> Hashable:
        """Returns the size and number of the pictures: equal ones have equally many tokens."""
        width, height = row.get(c.WIDTH_PX.name), row.get(c.HEIGHT_PX.name)
        size = chat_model.fitted(width, height, self.image_px) if width and height else None
        lists = [row.get(o.name) for o in self.inputs if o == REFERENCE_IMAGES]
        return (size, len(lists[0] or ())) if lists else size

    def load(self) -> Pretrained | Endpoint:
        """Loads the model, or reads the endpoint's key."""
        if self.endpoint is None:
            return chat_model.load(self.weights)
        return self.open_endpoint(self.endpoint, "judge", self._form.request)

    def run_by(
        self, rows: Sequence[Row], model: Pretrained | Endpoint, calls: Calls
    ) -> list[Answer]:
        """Asks about each edit: the model in batches of one shape, an endpoint row by row."""
        if not isinstance(model, Endpoint):
            return super().run_by(rows, model, calls)
        ask = partial(row_error_as_answer, self._ask_endpoint)
        return list(model.threads.map(ask, rows, repeat(model)))

    def _ask_endpoint(self, row: Row, endpoint: Endpoint) -> NewColumns:
        questions = self._asked(row)
        try:
            passes = [self._ask_once(one, questions) for one in by_pass(endpoint, self.num_passes)]
        except ForbiddenError as error:
            raise RowError("judge_forbidden", f"the judge's {error}") from error
        return self._over_passes(passes)

    def _over_passes(self, passes: Sequence[Sequence[Heard]]) -> NewColumns:
        """Returns the columns of one pass, or the means of those that could be read."""
        columns = [self._columns(heard) for heard in passes]
        if self.num_passes == 1:
            return columns[0]
        read = [values for values in columns if values[LMM_STATUS.name] == "ok"]
        return {**(read or columns)[0], **averaged(read, self._form.columns)}

    def _ask_once(self, endpoint: Endpoint, questions: Sequence[Question]) -> list[Heard]:
        """Asks the form's questions, until one has no answer that can be read."""
        heard: list[Heard] = []
        for question in questions:
            heard.append(self._ask_until_read(endpoint, question))
            if heard[-1].status != "ok":
                break
        return heard

    def _ask_until_read(self, endpoint: Endpoint, question: Question) -> Heard:
        """Asks one question; where the answer cannot be read, for a better one."""
        turns: list[str] = []
        shown = len(question.pictures)
        heard = self._heard(chat_endpoint.ask(endpoint, question), shown)
        for _ in range(self.repairs):
            if heard.status != "parse_error":
                break
            turns += [heard.text or "", f"I cannot read that. Give only {self._form.answer_form}."]
            heard = self._heard(chat_endpoint.ask(endpoint, question, turns), shown)
        return heard

    def prepare(self, row: Row, model: Pretrained | Endpoint) -> _Asked:
        """Returns the questions about one edit as the model takes them."""
        assert isinstance(model, Pretrained)
        asked = self._asked(row)
        try:
            questions = tuple(
                chat_model.tokenize(model, question, self.max_prompt_tokens) for question in asked
            )
        except PromptTooLongError as error:
            raise RowError("judge_prompt_too_long", str(error)) from error
        shown = tuple(len(question.pictures) for question in asked)
        seed = (row.get(c.SEED.name) or 0) if self.temperature else 0
        return _Asked(questions, shown, seed)

    def infer(self, inputs: Sequence[_Asked], model: Pretrained | Endpoint) -> list[_Passes]:
        """Returns the model's replies about each edit, one for each question and pass."""
        assert isinstance(model, Pretrained)
        passes = [self._pass(number, inputs, model) for number in range(self.num_passes)]
        return list(zip(*passes, strict=True))

    def _pass(
        self, number: int, inputs: Sequence[_Asked], model: Pretrained
    ) -> list[tuple[Told, ...]]:
        """Returns the replies about each edit in one pass."""
        by_question = [
            self._told(questions, model, self._sampling(inputs, number, place))
            for place, questions in enumerate(
                zip(*(each.questions for each in inputs), strict=True)
            )
        ]
        return list(zip(*by_question, strict=True))

    def _sampling(self, inputs: Sequence[_Asked], number: int, place: int) -> Sampling | None:
        if not self.temperature:
            return None
        return Sampling([pass_seed(each.seed, number, place) for each in inputs], self.temperature)

    def _told(
        self, questions: Sequence[Tokens], model: Pretrained, sampling: Sampling | None
    ) -> list[Told]:
        """Returns the replies to one question about several edits."""
        given = (model, questions, self.max_new_tokens, sampling)
        if self._form.reads_tokens:
            return chat_model.reply_with_tokens(*given)
        return [Told(text) for text in chat_model.reply(*given)]

    def answer(
        self, row: Row, asked: _Asked, told: _Passes, model: Pretrained | Endpoint
    ) -> NewColumns:
        """Returns the columns of what the replies state."""
        del row, model
        return self._over_passes([self._read(replies, asked.num_pictures) for replies in told])

    def _read(self, replies: Sequence[Told], num_pictures: Sequence[int]) -> list[Heard]:
        pairs = zip(replies, num_pictures, strict=True)
        return [self._heard(Reply("ok", one.text, one.tokens), shown) for one, shown in pairs]

    def _asked(self, row: Row) -> list[Question]:
        """Returns the questions about one edit, with its pictures."""
        wanted = wanted_of(row)
        shown = {column.name: self._fitted(row[column.name]) for column in self.inputs}
        asked: list[Question] = []
        for question in self._questions:
            pictures = tuple(one for column in question.pictures for one in shown[column.name])
            text = question.text.replace(COUNT, str(len(pictures) - 1))
            asked.append(Question(pictures, text.replace(INSTRUCTION, wanted)))
        return asked

    def _fitted(self, data: bytes | Sequence[bytes] | None) -> list[Image.Image]:
        """Returns the pictures of a column.

        Raises:
            RowError: `references_missing`, or a picture cannot be decoded.
        """
        if not data:
            raise RowError("references_missing", "the row has no edits to compare")
        several = [data] if isinstance(data, bytes) else data
        return [chat_model.fit(decode(one).image(), self.image_px) for one in several]

    def _heard(self, reply: Reply, num_pictures: int) -> Heard:
        if reply.status != "ok":
            return Heard(reply.status, reply.text)
        text = reply.text or ""
        reading = self._form.read(Told(text, reply.tokens, num_pictures))
        if reading is None:
            return Heard("refused" if is_refusal(text) else "parse_error", reply.text)
        return Heard("ok", reply.text, reading)

    def _columns(self, heard: Sequence[Heard]) -> NewColumns:
        """Returns the columns of a row whose questions ended so."""
        form = self._form
        status = next((each.status for each in heard if each.status != "ok"), "ok")
        values: Mapping[str, Any] = {column.name: None for column in form.columns}
        if status == "ok":
            values = form.values([each.reading for each in heard])
        texts = [each.text for each in heard if each.text is not None]
        asked = "\n\n".join(question.text for question in self._questions)
        return {
            **values,
            LMM_STATUS.name: status,
            LMM_REPLY.name: "\n\n".join(texts) if texts else None,
            JUDGE_PROMPT_SHA256.name: sha256(asked.encode()),
        }
