"""One way of calling diffusers' pipelines of transformer editors.

Each module of `operators/pipelines` holds one: which classes are called so, how the source and the
references are handed over, which guidance there is, and what may share a call. Most classes share
their pictures among all prompts of a call, or refuse more than one: their rows are called one by
one, so that a row's bytes do not depend on its neighbours. Height and width are always given.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.diffusion.speed import FIXED_SCHEDULES, steps_of_one_call
from overpaint.operators.framing.frame import Shapes, Size
from overpaint.operators.models.tokenizing import TextLength
from overpaint.pipeline.conditions import REFERENCES
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import RowError
from PIL import Image

if TYPE_CHECKING:
    from overpaint.operators.diffusion.pipeline_model import PipelineModel
    from torch import Tensor

_SIDES = (
    *((1536, 672), (1472, 704), (1408, 736), (1344, 768), (1280, 800)),
    *((1248, 832), (1184, 864), (1152, 896), (1120, 928), (1088, 960)),
)
_WIDE, _TALL = (tuple(Size(*pair[::step]) for pair in _SIDES) for step in (1, -1))
ONE_MEGAPIXEL = Shapes(1024, (*_WIDE, Size(1024, 1024), *_TALL))
"""Shapes of at most 1024 x 1024 pixels, in multiples of 32: no class resizes such a picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallSettings:
    """Numbers and words of a call, as a row has them.

    Attributes:
        num_inference_steps: denoising steps.
        guidance_scale: scale of the guidance, of whichever kind the class has.
        negative_prompt: prompt of the second branch of true classifier-free guidance.
        strength: share of the steps that an inpainting class walks.
        is_distilled: whether the weights are distilled to need no guidance.
    """

    num_inference_steps: int
    guidance_scale: float
    negative_prompt: str = " "
    strength: float = 1.0
    is_distilled: bool = False

    @property
    def walked(self) -> int:
        """The steps that an inpainting class walks, as diffusers counts them."""
        number = self.num_inference_steps
        return number - int(max(number - min(number * self.strength, number), 0))

    @property
    def is_guided(self) -> bool:
        """True where true classifier-free guidance needs a second branch."""
        return self.guidance_scale > 1 and not self.is_distilled


class PipelineCall(ABC):
    """A way of calling the pipelines of some classes."""

    classes: ClassVar[tuple[str, ...]]
    """Diffusers' pipeline classes that it calls."""
    same_parts: ClassVar[tuple[str, ...]] = ()
    """Classes whose checkpoints have the parts of the first of those, and may be named instead."""
    shapes: ClassVar[Shapes] = ONE_MEGAPIXEL
    """Shapes of the picture that the model sees."""
    multiple_px: ClassVar[int | None] = None
    """Number that the picture's sides are multiples of; None: of two latent pixels."""
    num_inference_steps: ClassVar[int] = 50
    """Steps where a recipe names none."""
    guidance_scale: ClassVar[float] = 4.0
    """Scale of the guidance where a recipe names none."""
    distilled_steps: ClassVar[int] = 4
    """Steps of distilled weights where a recipe names none."""
    max_references: ClassVar[int | None] = 0
    """Most references that it hands over; None for no limit."""
    uses_mask: ClassVar[bool] = False
    """Whether the pipeline itself is given the mask."""
    shares_calls: ClassVar[bool] = False
    """Whether rows of one size share a call."""
    num_pictures: ClassVar[int] = 2
    """Pictures in the transformer's sequence: the one that is made, and the source, or one where
    the source is beside it in the channels."""
    takes_lora: ClassVar[bool] = True
    """Whether diffusers loads LoRAs into the classes."""
    caches: ClassVar[tuple[str, ...]] = FIXED_SCHEDULES
    """Caches of steps that the classes take."""

    @classmethod
    def summary(cls) -> str:
        """Returns the classes, and what is handed over and shared."""
        most = cls.max_references
        takes = "references" if most is None else f"{most} reference{'s' * (most > 1)}"
        parts = ["source", *([takes] if cls.max_references != 0 else [])]
        parts += ["mask"] if cls.uses_mask else []
        sharing = "rows of one size share a call" if cls.shares_calls else "one row a call"
        usual = CallSettings(
            num_inference_steps=cls.num_inference_steps, guidance_scale=cls.guidance_scale
        )
        classes = ", ".join(cls.classes) or "any class"
        return f"{classes}: {', '.join(parts)}; {sharing}; {cls().cost(usual, 0)}"

    @abstractmethod
    def arguments(self, request: EditRequest, settings: CallSettings) -> Mapping[str, Any]:
        """Returns what the pipeline is called with for one row, beside `usual_arguments`."""

    @abstractmethod
    def cost(self, settings: CallSettings, num_references: int) -> Cost:
        """Returns the network evaluations for one row.

        The empty prompt is embedded once an actor and is no row's.
        """

    def check(self, pipeline: Any) -> None:
        """Checks that a loaded pipeline can be called so.

        Raises:
            ValueError: it cannot.
        """
        del pipeline

    def check_cache(self, cache: str, settings: CallSettings) -> None:
        """Checks that the classes take a cache of steps.

        Raises:
            ValueError: they do not; names those that they take.
        """
        if not cache:
            return
        if cache not in self.caches:
            known = ", ".join(self.caches) or "none"
            raise ValueError(f"cache = {cache!r}: a {self.classes[0]} takes {known}")
        evaluations = self.cost(replace(settings, strength=1.0), 0).forward
        has_branches = evaluations > settings.num_inference_steps
        if cache == "pyramid_attention_broadcast" and has_branches:
            raise ValueError(
                f"cache = {cache!r} would mix the branches of guidance: guidance_scale = 1"
            )

    def text_length(self, text: str, model: "PipelineModel") -> TextLength | None:
        """Returns the length of a text for the text encoder; None where it sees all of it."""
        return model.text_length(text)

    def run(
        self, requests: Sequence[EditRequest], settings: CallSettings, model: "PipelineModel"
    ) -> list[NDArray[np.float32]]:
        """Edits rows of one size; returns RGB float32 HWC, about 0-255."""
        from overpaint.operators.diffusion.latents import to_pictures

        if self.shares_calls:
            with steps_of_one_call(model.pipeline):
                return to_pictures(self.call(requests, settings, model) * 2.0 - 1.0)
        # Padding repeats a request: each is called once.
        different = {id(request): request for request in requests}
        made: dict[int, NDArray[np.float32]] = {}
        for key, request in different.items():
            with seeded(request.seed), steps_of_one_call(model.pipeline):
                images = self.call([request], settings, model)
            made[key] = to_pictures(images * 2.0 - 1.0)[0]
        return [made[id(request)] for request in requests]

    def call(
        self, requests: Sequence[EditRequest], settings: CallSettings, model: "PipelineModel"
    ) -> "Tensor":
        """Calls the pipeline for one row; returns images b3HW, 0 to 1, of the frame's size."""
        (request,) = requests
        given = {**usual_arguments(request, settings), **self.arguments(request, settings)}
        return of_size(model.pipeline(**given).images, request)


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Seeds PyTorch's own generators, and leaves them as they were.

    Some pipelines draw from them, whatever generator they are given.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def usual_arguments(request: EditRequest, settings: CallSettings) -> dict[str, Any]:
    """Returns what all classes are called with for one row."""
    from overpaint.operators.diffusion.latents import make_generators

    height_px, width_px = request.picture.shape[:2]
    return {
        "prompt": request.prompt,
        "height": height_px,
        "width": width_px,
        "num_inference_steps": settings.num_inference_steps,
        "generator": make_generators([request.seed])[0],
        "output_type": "pt",
    }


def of_size(images_bcHW: Any, request: EditRequest) -> Any:  # noqa: N803  the shape's own letters
    """Returns RGB images in the size of a request's picture.

    Some classes have sizes of their own, and one makes pictures with an alpha channel.
    """
    import torch

    size = request.picture.shape[:2]
    rgb_b3HW = images_bcHW[:, :3]  # noqa: N806  the shape's own letters
    if tuple(rgb_b3HW.shape[-2:]) == size:
        return rgb_b3HW
    resized = torch.nn.functional.interpolate(
        rgb_b3HW.float(), size, mode="bicubic", antialias=True
    )
    return resized.clamp(0.0, 1.0)


def source_image(request: EditRequest) -> Image.Image:
    """Returns the source as a Pillow image of the frame's size."""
    return Image.fromarray(request.picture)


def mask_image(request: EditRequest) -> Image.Image:
    """Returns the mask as a Pillow image, 255 = may change; where there is none, all may."""
    if request.mask is None:
        return Image.new("L", request.frame.size, 255)
    return Image.fromarray(np.rint(request.mask * 255.0).astype(np.uint8))


def reference_images(
    request: EditRequest, most: int | None = None, *, least_px: int = 1, most_aspect: float = 100.0
) -> list[Image.Image]:
    """Returns the references of a row as Pillow images, in order.

    Args:
        request: a row.
        most: most references; those after them are not used.
        least_px: shorter sides are enlarged to it.
        most_aspect: longest side allowed, in shorter sides.

    Raises:
        RowError: `references_invalid`: one is longer.
    """
    given = request.values.get(REFERENCES.name) or []
    images = [Image.fromarray(pixels) for pixels in given[:most]]
    for image in images:
        if max(image.size) > most_aspect * min(image.size):
            message = f"a reference is more than {most_aspect:g} times as long as wide"
            raise RowError("references_invalid", message)
    return [enlarged(image, least_px) for image in images]


def enlarged(image: Image.Image, least_px: int) -> Image.Image:
    """Returns an image whose shorter side has at least so many pixels."""
    if min(image.size) >= least_px:
        return image
    width_px, height_px = (
        max(least_px, round(side * least_px / min(image.size))) for side in image.size
    )
    return image.resize((width_px, height_px), Image.Resampling.LANCZOS)
