"""Loading of pretrained models: transformers' models with their processors, and where they run.

Image processors take their Pillow form: it is always there, while the other one needs torchvision
and gives other digits.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from overpaint.operators.models.tokenizing import one_call_at_a_time
from overpaint.operators.models.weights import Checkpoint, DtypeName

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A transformers model with its processor.

    Attributes:
        processor: tokenizer and image processor of the model.
        model: the model, on this actor's device.

    Example:
        >>> from transformers import CLIPModel
        >>> clip = Pretrained.load(CLIPModel, Checkpoint(name="papercut", part="clip"))
    """

    processor: Any
    model: Any

    @classmethod
    def load(cls, loader: Any, checkpoint: Checkpoint) -> "Pretrained":
        """Loads a checkpoint's model and processor.

        Args:
            loader: the class of transformers whose `from_pretrained` is called.
            checkpoint: the weights, which are fetched where they are not here; its adapters are
                merged into them.
        """
        checkpoint = checkpoint.fetched()
        with quietly():
            model = loader.from_pretrained(
                checkpoint.path, dtype=torch_dtype(checkpoint.dtype), **checkpoint.weight_options()
            )
            for number, adapter in enumerate(checkpoint.adapters):
                adapter.fuse(model, f"adapter{number}")
            processor = _load_processor(checkpoint)
        return cls(processor, model.eval().to(device()))


def _load_processor(checkpoint: Checkpoint) -> Any:
    from transformers import AutoImageProcessor, AutoProcessor

    options = checkpoint.source_options()
    # A `backend` given here would also be asked of video processors, which have no other.
    processor: Any = AutoProcessor.from_pretrained(checkpoint.path, **options)
    if hasattr(processor, "image_mean"):  # an image processor alone
        return AutoImageProcessor.from_pretrained(checkpoint.path, backend="pil", **options)
    images = getattr(processor, "image_processor", None)
    if images is not None and not type(images).__name__.endswith("Pil"):
        processor.image_processor = AutoImageProcessor.from_pretrained(
            checkpoint.path, backend="pil", **options
        )
    if getattr(processor, "tokenizer", None) is not None:
        one_call_at_a_time(processor.tokenizer)
    return processor


def device() -> "torch.device":
    """Returns the accelerator of this actor, or the CPU where it reserved none.

    Ray hides the GPUs that an actor did not reserve, so that a visible one is reserved.
    """
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def torch_dtype(name: DtypeName) -> "torch.dtype":
    """Returns PyTorch's number type of that name."""
    import torch

    return {
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }[name]


@contextmanager
def quietly() -> Generator[None]:
    """Turns off transformers' progress bars and advice: a run has a display of its own."""
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
