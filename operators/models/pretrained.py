"""Loading a transformers model and its processor from a checkpoint.

Image processors take their Pillow form: it is always there, while the other one needs torchvision
and gives other digits.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from overpaint.operators.models import device
from overpaint.operators.models import weights as checkpoints


def load_processor(checkpoint: str, part: str, revision: str | None) -> Any:
    """The processor that belongs to a checkpoint: its tokenizer and its image processor."""
    from transformers import AutoImageProcessor, AutoProcessor

    path = checkpoints.resolve(checkpoint, part)
    options = checkpoints.source_options(checkpoint, revision)
    with quietly():
        # A `backend` given here would also be asked of video processors, which have no other.
        processor: Any = AutoProcessor.from_pretrained(path, **options)
        images = getattr(processor, "image_processor", None)
        if images is not None and not type(images).__name__.endswith("Pil"):
            processor.image_processor = AutoImageProcessor.from_pretrained(
                path, backend="pil", **options
            )
    return processor


def load_model(
    loader: Any, checkpoint: str, part: str, revision: str | None, dtype: device.DtypeName
) -> Any:
    """A checkpoint's model, ready to be asked, on this actor's device.

    Args:
        loader: the class of transformers whose `from_pretrained` is called.
        checkpoint: "papercut", a local folder, or a hub id.
        part: which papercut checkpoint is meant.
        revision: a commit, tag or branch of the hub; null stands for `main`.
        dtype: of the weights and of all that is computed with them.
    """
    with quietly():
        model = loader.from_pretrained(
            checkpoints.resolve(checkpoint, part),
            dtype=device.torch_dtype(dtype),
            **checkpoints.weight_options(checkpoint, revision),
        )
    return model.eval().to(device.device())


@contextmanager
def quietly() -> Generator[None, None, None]:
    """Without transformers' progress bars and advice: a run has a display of its own."""
    from transformers.utils import logging

    was_shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if was_shown:
            logging.enable_progress_bar()
