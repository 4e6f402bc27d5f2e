"""OpenTelemetry spans of batches, where a process has its library and a tracer provider.

A provider is set up by `OTEL_PYTHON_TRACER_PROVIDER`, by `opentelemetry-instrument`, or in Ray's
workers by `ray start --tracing-startup-hook`. Without one nothing is imported, and nothing done.
"""

import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

_API = "opentelemetry.trace"
_VARIABLE = "OTEL_PYTHON_TRACER_PROVIDER"


@dataclass(slots=True)
class BatchWork:
    """Work on a batch, while it goes on.

    Attributes:
        model_s: seconds of the steps that have used a model so far.
        has_model: whether there was such a step.
    """

    model_s: float = 0.0
    has_model: bool = False

    @contextmanager
    def model_step(self) -> Generator[None]:
        """Counts its body as a step that uses a model."""
        start_s = time.monotonic()
        try:
            yield
        finally:
            self.model_s += time.monotonic() - start_s
            self.has_model = True


@contextmanager
def batch_span(stage: str, task: str, num_rows: int) -> Generator[BatchWork]:
    """Makes a span of a batch: stage, task, rows, use of a model, and an exception that ends it.

    Args:
        stage: name of the stage.
        task: name of the task's result.
        num_rows: rows of the batch.

    Yields:
        The work on the batch, which what is called in the body adds to.
    """
    work, trace = BatchWork(), _trace_api()
    if trace is None:
        yield work
        return
    attributes: dict[str, Any] = {"stage": stage, "task": task, "rows": num_rows}
    named = {f"overpaint.{name}": value for name, value in attributes.items()}
    tracer = trace.get_tracer("overpaint")
    with tracer.start_as_current_span(f"{stage} batch", attributes=named) as span:
        try:
            yield work
        finally:
            span.set_attribute("overpaint.has_model", work.has_model)
            span.set_attribute("overpaint.model_s", work.model_s)


def _trace_api() -> Any:
    """Returns the library's API; None where nobody can have set up a provider."""
    if _API in sys.modules:
        return sys.modules[_API]
    if os.environ.get(_VARIABLE) and find_spec("opentelemetry") is not None:
        return import_module(_API)
    return None
