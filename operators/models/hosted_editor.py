"""A server that edits pictures, as one actor uses it: in threads, within limits, asked once a row.

The first row of a run is a probe as well. It is asked for alone, again, and a third time beside
other rows: so the run's statistics tell whether the server repeats itself.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from overpaint.operators.models.edit_request import (
    REFUSED,
    Server,
    as_row_error,
    post,
    read_picture,
)
from overpaint.operators.models.image_edits import Dialect, Form, ImageEdit
from overpaint.operators.models.kept_answers import KeptAnswers
from overpaint.operators.models.request_limits import (
    BusyError,
    RequestBudget,
    RequestLimits,
    TransientError,
)
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import RowError
from overpaint.pipeline.identity import sha256
from overpaint.pipeline.images import Pixels
from overpaint.pipeline.operator import End, Rejected, row_error_as_answer

Outcome = Pixels | End
"""Picture of the size that was asked for, RGB uint8 HWC; or why there is none."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A row's request.

    Attributes:
        edit: what is asked for.
        dialect: form in which it is.
        key: key of the row; None where its answer is not kept.
        answers: answers of the run; None where none are kept.
    """

    edit: ImageEdit
    dialect: Dialect
    key: str | None
    answers: KeptAnswers | None

    @cached_property
    def form(self) -> Form:
        """The form that is sent."""
        return self.dialect.form(self.edit)

    def kept(self) -> bytes | None:
        """Returns the answer that the run has got before; None where it has none.

        Empty bytes stand for a refusal.
        """
        if self.answers is None or self.key is None:
            return None
        return self.answers.find(self.key, self.form.boundary)

    def keep(self, answer: bytes) -> None:
        """Keeps an answer until the row has ended; empty bytes stand for a refusal."""
        if self.answers is not None and self.key is not None:
            self.answers.keep(self.key, self.form.boundary, answer)


class HostedEditor:
    """A server with the limits of one actor.

    Args:
        server: address of the server.
        dialect: form of requests.
        model: the model, as the server names it.
        limits: limits that the actor's threads share.
        budget: requests that the run may make.
        max_concurrency: threads that ask.
        name: word for the server and its settings, under which a run keeps what it finds out.
        identity: what the manifest says of the weights.
        has_probe: whether the first row of a run is a probe as well.
    """

    def __init__(
        self,
        *,
        server: Server,
        dialect: Dialect,
        model: str,
        limits: RequestLimits,
        budget: RequestBudget,
        max_concurrency: int,
        name: str,
        identity: str,
        has_probe: bool,
    ) -> None:
        self.identity = identity
        self.dialect, self.model = dialect, model
        self.resolution_px = dialect.resolution_px
        self.multiple_px = dialect.multiple_px
        self.oom_fallbacks: tuple[str, ...] = ()
        self.repeats: dict[str, Any] = {}
        """What the probe has found: whether the same request got the same picture `again`, and
        `beside_others`; null where one of the two had no answer, or there were no others."""
        self._server, self._limits, self._budget = server, limits, budget
        self._name, self._max_concurrency = name, max_concurrency
        self._is_probed = not has_probe
        self._threads = ThreadPoolExecutor(max_concurrency, thread_name_prefix="endpoint")
        self._probing, self._lock = threading.Lock(), threading.Lock()
        self._num_requests = 0

    @property
    def spent(self) -> Cost:
        """The requests so far, those that failed included."""
        return Cost(requests=self._num_requests)

    def edit_each(self, asked: Sequence[Asked]) -> list[Outcome]:
        """Asks for each edit, several at a time; those that the run has are not asked for again.

        Raises:
            StoppedError: the server takes no request, or the run may make no more.
        """
        with self._probing:  # nothing else is under way while the probe asks alone
            if not self._is_probed and (answers := asked[0].answers) is not None:
                return self._probe(asked, answers)
        return self._each(asked)

    def _each(self, asked: Sequence[Asked]) -> list[Outcome]:
        return list(self._threads.map(self._outcome, asked))

    def _outcome(self, asked: Asked) -> Outcome:
        return row_error_as_answer(self._edited, asked)

    def _edited(self, asked: Asked) -> Pixels | Rejected:
        """Returns the picture of a row; an answer is kept once it is known to be of use."""
        kept = asked.kept()
        answer = self._ask(asked) if kept is None else kept or REFUSED
        picture = answer if isinstance(answer, Rejected) else read_picture(answer, asked.edit.size)
        if kept is None:
            asked.keep(b"" if isinstance(answer, Rejected) else answer)
        return picture

    def _ask(self, asked: Asked) -> bytes | Rejected:
        folder = None if asked.answers is None else asked.answers.folder

        def request() -> bytes | Rejected:
            self._budget.spend(folder)
            with self._lock:
                self._num_requests += 1
            return post(self._server, asked.form)

        try:
            return self._limits.ask(request)
        except (BusyError, TransientError) as error:
            raise as_row_error(error) from error

    def _probe(self, asked: Sequence[Asked], answers: KeptAnswers) -> list[Outcome]:
        """Asks for a batch, and for its first row two times more; an earlier probe is read."""
        found = answers.probed(self._name)
        if found is None:
            alone = self._outcome(asked[0])
            if not isinstance(alone, np.ndarray):
                return [alone, *self._each(asked[1:])]  # the next batch is the probe
            digest = sha256(alone.tobytes())
            again = _agree(digest, self._digest(asked[0]))
            has_company = len(asked) > 1 and self._max_concurrency > 1
            late = self._threads.submit(self._digest, asked[0]) if has_company else None
            outcomes = [alone, *self._each(asked[1:])]
            beside = _agree(digest, late.result()) if late else None
            found = {"again": again, "beside_others": beside}
            answers.keep_probe(self._name, found)
        else:
            outcomes = self._each(asked)
        self.repeats, self._is_probed = found, True
        return outcomes

    def _digest(self, asked: Asked) -> str | None:
        """Asks once more; returns a digest of the picture, None where there is none."""
        try:
            answer = self._ask(asked)
            if isinstance(answer, Rejected):
                return None
            return sha256(read_picture(answer, asked.edit.size).tobytes())
        except RowError:
            return None


def _agree(digest: str, other: str | None) -> bool | None:
    return None if other is None else digest == other
