"""Daft on its own runner: `from_glob_path`, `download`, a class with a batch method, `upload`.

By its defaults, it decodes and encodes by itself (`decode_image`, `encode_image`). Its decoder
gives other pixels than Pillow's, and its encoder has no level: where all are to write equal PNGs,
both are functions that call Pillow, as its guide to pictures shows. Its runner on Ray asks for an
earlier Ray.
"""

import os
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from typing import Any

import numpy as np
from overpaint.jobs.bench.busy_system import BATCH, Job, Model, System
from PIL import Image

_INSTALL = "Daft is not installed: pip install --no-deps 'daft>=0.7.26,<0.8'"
_SETTINGS = {"DAFT_RUNNER": "native", "DAFT_PROGRESS_BAR": "0", "DO_NOT_TRACK": "true"}
"""Environment variables that Daft reads when it is imported and first runs."""


class Daft(System):
    """A data frame of Daft with a class of as many instances as there are models."""

    def missing(self) -> str | None:
        """Returns how to install Daft; it is no extra, as it asks for an older PyArrow."""
        return None if find_spec("daft") else _INSTALL

    def run(self, job: Job) -> None:
        """Runs the query to its end."""
        os.environ.update(_SETTINGS)
        daft: Any = import_module("daft")
        job.out.mkdir(parents=True, exist_ok=True)
        decoded, encoded = _codec(daft, job)
        frame = daft.from_glob_path(f"{job.source}/*")
        frame = frame.with_column("image", decoded(daft.col("path").download()))
        frame = frame.with_column("edited", _model(daft, job)(daft.col("image")))
        frame = frame.with_column("png", encoded(daft.col("edited")))
        target = daft.col("path").replace(str(job.source), str(job.out)).replace(".jpg", ".png")
        frame.select(daft.col("png").upload(target)).collect()


def _model(daft: Any, job: Job) -> Any:
    """Returns the model as Daft calls it."""

    @daft.cls(max_concurrency=job.actors)
    class Editor:
        def __init__(self) -> None:
            self.model = Model(job)

        @daft.method.batch(return_dtype=daft.DataType.image("RGB"), batch_size=BATCH)
        def __call__(self, images: Any) -> list[np.ndarray[Any, Any]]:
            return self.model.edit(images.to_pylist())

    return Editor()


def _codec(daft: Any, job: Job) -> tuple[Any, Any]:
    """Returns functions that decode bytes and encode pictures."""
    if not job.same_png:
        return (
            lambda data: data.decode_image(mode="RGB"),
            lambda image: image.encode_image("png"),
        )
    options = job.png_options

    @daft.func(return_dtype=daft.DataType.image("RGB"))
    def decode(data: bytes) -> np.ndarray[Any, Any]:
        return np.asarray(Image.open(BytesIO(data)).convert("RGB"))

    @daft.func(return_dtype=daft.DataType.binary())
    def encode(image: np.ndarray[Any, Any]) -> bytes:
        buffer = BytesIO()
        Image.fromarray(image).save(buffer, "png", **options)
        return buffer.getvalue()

    return decode, encode
