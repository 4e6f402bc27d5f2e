"""The contract of one step: a frozen value that is its own configuration.

What changes bytes is a field and is fingerprinted, the batch size included: a model's answer for
one row depends on the shape of the batch in the last digit, and that digit can flip a pixel. What
changes only speed is `Placement` and is not.

An operator is a function of its inputs. Rows of one task whose inputs are equal share one answer,
so that one caption or one inversion serves every edit of an image; an operator that should answer
each row anew reads `seed`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, ParamSpec, Self, TypeVar, final

from overpaint.pipeline.columns import Column, Row
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import RowError
from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["fetch", "caption", "mask", "invert", "edit", "store", "score", "judge"]
"""Purpose of an operator: a plan fetches first, and stores after its last edit."""

ModelT = TypeVar("ModelT")
InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")
T = TypeVar("T")
P = ParamSpec("P")

NewColumns = Mapping[str, Any]
"""The columns that an operator adds to one row, by name."""

NOT_IN_FINGERPRINT: dict[str, Any] = {"identity": False}
"""`json_schema_extra` of a field that cannot change a byte of an answer.

Such a field is a time limit, a permission, or a bound that decides only whether a row fails.
"""
IN_FINGERPRINT_UNLESS_DEFAULT: dict[str, Any] = {"identity": "unless_default"}
"""`json_schema_extra` of a field that came after its variant, and whose default changes no byte."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An operator's answer for a row that it understood and declines.

    Attributes:
        code: short, stable, lower-case word for the manifest, such as `mask_empty`.
        message: one sentence, free of addresses and times.
    """

    code: str
    message: str


End = Rejected | RowError
"""Why a row goes no further."""
Answer = NewColumns | End
"""What an operator returns for one row: its new columns, or why there are none."""


class Calls:
    """Ways to call the steps of an operator: here one after the other, in the caller's thread.

    An actor calls them otherwise: models in one thread, and what is done beside them, such as
    decoding and encoding, in several others, while a model is at work on another batch.
    """

    def model(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a step that uses a model: never two at the same time."""
        return step(*args, **kwargs)

    def beside(self, step: Callable[[InputT], OutputT], items: Iterable[InputT]) -> list[OutputT]:
        """Calls a step that uses no model for each item, and returns the results in order."""
        return [step(item) for item in items]


class Operator(BaseModel, ABC, Generic[ModelT]):
    """One step of a plan: reads some columns of a row and adds others.

    An operator whose field `num_threads` is a number has that many PyTorch threads in `load` and
    `run`: the runner sets them, since the last digit of a sum depends on it.

    Example:
        class Shout(Operator[None]):
            kind: ClassVar[Kind] = "caption"

            @property
            def inputs(self) -> tuple[Column, ...]:
                return (c.INSTRUCTION,)

            @property
            def outputs(self) -> tuple[Column, ...]:
                return (c.CAPTION,)

            def load(self) -> None: ...

            def run(self, rows: Sequence[Row], model: None) -> list[Answer]:
                return [{"caption": row["instruction"].upper()} for row in rows]
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=()
    )

    kind: ClassVar[Kind]
    """Purpose; a plan has at most one `fetch`, and edits before it stores."""
    pixels_version: ClassVar[int] = 1
    """Raised only when the same fields and inputs give other bytes than before."""
    renamed: ClassVar[Mapping[str, str]] = {}
    """Former names of fields and their present names, for error messages."""

    replaces: ClassVar[Mapping[str, str]] = {}
    """Columns that later stages of a plan read in place of others, where their `reads` does not say
    otherwise: the operator's own column, by the name that those stages know."""

    batch_size: int = Field(default=1, ge=1, le=4096)
    """Rows in one call."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[Column, ...]:
        """The columns that the operator needs; each row has a value, possibly null, for each."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[Column, ...]:
        """The columns that the operator adds; the new columns of a row are exactly these."""

    @property
    def optional(self) -> tuple[Column, ...]:
        """The columns that the operator uses where the plan has them; null where it does not."""
        return ()

    def with_batch_size(self, batch_size: int) -> Self:
        """Returns the operator with another batch size, checked as a recipe's is.

        Raises:
            ValueError: the operator refuses it.
        """
        fields = {**self.model_dump(mode="json"), "batch_size": batch_size}
        sized = type(self).model_validate(fields)
        sized.check()
        return sized

    @property
    def choice_columns(self) -> tuple[Column, ...]:
        """The columns by which a row chooses among operators, see `for_row`."""
        return ()

    def for_row(self, row: Row) -> "Operator[ModelT]":
        """Returns the operator that does the work for a row: its key and costs go by that one.

        Args:
            row: has `choice_columns`.

        Raises:
            RowError: there is no such choice.
        """
        del row
        return self

    def choice_of(self, row: Row) -> str:
        """Returns the name of the choice that a row makes; '' where there are none.

        Args:
            row: has `choice_columns`.

        Raises:
            RowError: there is no such choice.
        """
        del row
        return ""

    @classmethod
    def expanded(cls, table: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Returns the stages, as tables of a recipe, that a table of this operator stands for.

        Raises:
            UsageError: the table cannot be expanded.
        """
        return [dict(table)]

    def check(self) -> None:
        """Checks, before anything is started, that what `load` will need is there.

        Raises:
            ValueError: something is missing; one sentence, naming the field.
        """

    def check_row(self, row: Row) -> None:
        """Checks a row's own values, when it is planned.

        Args:
            row: as planned, so without the columns that earlier stages add.

        Raises:
            ValueError: a value is not what it should be; one sentence.
        """
        del row

    @property
    def reproducible(self) -> bool:
        """True where equal rows get equal answers whenever they are asked for.

        A server that is asked anew for each row need not repeat itself.
        """
        return True

    def notes(self, model: ModelT) -> Mapping[str, Any]:
        """Returns what a loaded model has found out that the run's statistics keep, as JSON."""
        del model
        return {}

    def revisions(self) -> dict[str, str]:
        """Returns the exact weights of each checkpoint: a hub revision, or a digest of files."""
        return {}

    def cost(self, row: Row, sources: "Mapping[str, Operator[Any]]") -> Cost:
        """Returns the network evaluations that `run` needs for one row.

        Args:
            row: as planned, so without the columns that earlier stages add.
            sources: operator of the stage that adds a column, by the name under which this
                operator reads it.
        """
        del row, sources
        return Cost()

    def bucket(self, row: Row) -> Hashable:
        """Returns a value that is equal for rows that may share a call, such as a size."""
        del row
        return None

    @abstractmethod
    def load(self) -> ModelT:
        """Loads what `run` needs, once in each actor."""

    def free_memory(self, model: ModelT, *, exact: bool) -> str | None:
        """Makes a loaded model need less memory, after its device ran out of memory.

        Args:
            model: what `load` returned; changed in place.
            exact: True asks for a way that keeps every byte of every answer, False for one that
                may change the last digit.

        Returns:
            A word for what was done, such as `offload`; None where nothing is left to do.
        """
        del model, exact
        return None

    @abstractmethod
    def run(self, rows: Sequence[Row], model: ModelT) -> list[Answer]:
        """Answers each row, in order.

        Args:
            rows: 1 to `batch_size` rows of one bucket, with `inputs` and `optional` in each.
            model: what `load` returned.

        Returns:
            For each row exactly its output columns, or `Rejected`, or a `RowError` that says why
            the row cannot be done. An exception costs more: the rows are split and tried again
            until the row that causes it is alone.
        """

    def run_by(self, rows: Sequence[Row], model: ModelT, calls: Calls) -> list[Answer]:
        """Answers each row as `run` does, and leaves it to `calls` in which thread that is done.

        The whole of `run` counts as a step that uses a model; an operator that uses none, or not
        all the time, says so here, and then does not keep models from their work.

        Args:
            rows: as for `run`.
            model: what `load` returned.
            calls: calls the operator's steps.
        """
        return calls.model(self.run, rows, model)


class ModelOperator(Operator[ModelT], Generic[ModelT, InputT, OutputT]):
    """An operator whose model sees a batch of one shape.

    Each row is prepared by itself, the model sees `batch_size` inputs at every call, and each row
    is answered by itself. A row that cannot be prepared or answered costs no further model call.
    """

    @abstractmethod
    def prepare(self, row: Row, model: ModelT, /) -> InputT | Rejected:
        """Returns what the model is to see of one row: decoded, resized, put into words.

        A row that is `Rejected` here does not reach the model.

        Args:
            row: with `inputs` and `optional`.
            model: what `load` returned.

        Raises:
            RowError: the row cannot be done; it does not reach the model.
        """

    @abstractmethod
    def infer(self, inputs: Sequence[InputT], model: ModelT, /) -> Sequence[OutputT | End]:
        """Runs the model once and returns an output, or an end, for each input, in order.

        Args:
            inputs: exactly `batch_size` of what `prepare` returned; the last is repeated where
                there are fewer rows.
            model: what `load` returned.
        """

    @abstractmethod
    def answer(
        self, row: Row, input: InputT, output: OutputT, model: ModelT, /
    ) -> NewColumns | Rejected:
        """Returns the new columns of one row, or `Rejected`.

        Args:
            row: as given to `prepare`.
            input: what `prepare` returned for it.
            output: what `infer` returned for it.
            model: what `load` returned.

        Raises:
            RowError: the output is not usable, such as `nan_in_result`.
        """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuses a class whose `run` would not be called."""
        super().__init_subclass__(**kwargs)
        if "run" in vars(cls):
            raise TypeError(f"{cls.__name__}: a ModelOperator has infer, or run_by, and no run")

    @final
    def run(self, rows: Sequence[Row], model: ModelT) -> list[Answer]:
        """Prepares each row, runs the model once, and answers each row."""
        return self.run_by(rows, model, Calls())

    def run_by(self, rows: Sequence[Row], model: ModelT, calls: Calls) -> list[Answer]:
        """Answers each row; only `infer` is a step that uses the model.

        So `prepare` and `answer` may be called in several threads at once, for other rows.
        """

        def prepare(row: Row) -> InputT | Rejected | RowError:
            return row_error_as_answer(self.prepare, row, model)

        def answer(done: tuple[Row, InputT, OutputT | End]) -> Answer:
            row, model_input, output = done
            if isinstance(output, RowError | Rejected):
                return output
            return row_error_as_answer(self.answer, row, model_input, output, model)

        prepared = calls.beside(prepare, rows)
        ready = [
            (row, model_input)
            for row, model_input in zip(rows, prepared, strict=True)
            if not isinstance(model_input, RowError | Rejected)
        ]
        inputs = [model_input for _, model_input in ready]
        outputs = self.infer_by(inputs, model, calls) if inputs else []
        done = [(*pair, output) for pair, output in zip(ready, outputs, strict=True)]
        answers = iter(calls.beside(answer, done))
        return [
            ending if isinstance(ending, RowError | Rejected) else next(answers)
            for ending in prepared
        ]

    def infer_by(
        self, inputs: list[InputT], model: ModelT, calls: Calls
    ) -> Sequence[OutputT | End]:
        """Runs the model on one or more inputs: as a full batch, in a step that uses the model."""
        return calls.model(self._infer_padded, inputs, model)

    def _infer_padded(self, inputs: list[InputT], model: ModelT) -> Sequence[OutputT | End]:
        padding = [inputs[-1]] * (self.batch_size - len(inputs))
        return self.infer([*inputs, *padding], model)[: len(inputs)]


def row_error_as_answer(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | RowError:
    """Calls a function and returns its result, or the `RowError` that it raises.

    The error is a new one: a traceback would hold the pictures and tensors of its frames.
    """
    try:
        return call(*args, **kwargs)
    except RowError as error:
        return RowError(error.code, error.message)
