"""An edit by HTTP: a server that holds the model, an engine of one's own or a hosted one.

Each row is one request, with the row's seed where the server takes one. The answer is resized to
the row's frame, pasted back, stored and hashed like any other picture; it is kept until the row has
ended, so that a run that goes on asks for none of them twice. A server need not repeat itself:
`replay` says so, and a probe at the start of a run finds out.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

import numpy as np
from overpaint.operators.dialects import find_dialect
from overpaint.operators.diffusion.method import Edited, Framed, Method
from overpaint.operators.diffusion.request import EditRequest
from overpaint.operators.framing.frame import Shapes
from overpaint.operators.models.chat_endpoint import read_api_key
from overpaint.operators.models.edit_request import Server
from overpaint.operators.models.hosted_editor import Asked, HostedEditor
from overpaint.operators.models.image_edits import Dialect, ImageEdit, Scalar
from overpaint.operators.models.kept_answers import KeptAnswers
from overpaint.operators.models.request_limits import RequestBudget, RequestLimits
from overpaint.operators.models.weights import PAPERCUT, Checkpoint
from overpaint.pipeline import columns as c
from overpaint.pipeline.conditions import REFERENCES
from overpaint.pipeline.cost import Cost
from overpaint.pipeline.errors import UsageError
from overpaint.pipeline.identity import digest
from overpaint.pipeline.images import Picture, Pixels, encode
from overpaint.pipeline.operator import NOT_IN_FINGERPRINT
from PIL import Image
from pydantic import AfterValidator, Field, model_validator

_OURS = ("model", "prompt", "image", "image[]", "mask", "mask_image", "n", "size", "seed", "stream")
"""Fields of forms that are the row's, or that would change the form of the answer."""
_MOST_REFERENCE_PX = 2048


def _hyphenated(name: str) -> str:
    """Returns the one spelling of a dialect's name, so that keys depend on no other."""
    return name if ":" in name else name.replace("_", "-")


class Endpoint(Method, Framed):
    """A server that edits by HTTP: an engine of one's own, or a hosted model."""

    family = "F11"
    edit_types = (
        *("add", "remove", "replace", "background", "expression", "color", "texture", "style"),
        *("move", "resize", "pose", "viewpoint"),
    )
    checkpoints = ()
    papercut = None
    prompt = c.INSTRUCTION
    uses = (REFERENCES, c.KEY, c.RUN_URI)
    reproducible: ClassVar[bool] = False
    is_hosted: ClassVar[bool] = True
    idle_fields = frozenset({"batch_size", "dtype", "num_threads", "variant"})

    endpoint: str = Field(default="http://localhost:8000/v1", json_schema_extra=NOT_IN_FINGERPRINT)
    """URL of the interface, up to `/v1`; the model is named by `checkpoint`."""
    dialect: Annotated[str, AfterValidator(_hyphenated)] = "openai"
    """Form of the requests: `openai`, `vllm-omni`, `sglang`, or `my_package.module:ClassName`."""
    num_inference_steps: int = Field(default=0, ge=0, le=1000)
    """Denoising steps; 0 leaves them to the server."""
    guidance_scale: float | None = Field(default=None, ge=0, le=100)
    """Scale of guidance; null leaves it to the server."""
    request: dict[str, Scalar] = Field(default={})
    """Further fields of the form, such as `quality` or `true_cfg_scale`."""
    api_key_env: str | None = Field(default=None, json_schema_extra=NOT_IN_FINGERPRINT)
    """The environment variable that holds the endpoint's key; null sends none."""
    timeout_s: float = Field(default=300.0, gt=0, json_schema_extra=NOT_IN_FINGERPRINT)
    """Longest time of one request, in seconds."""
    attempts: int = Field(default=4, ge=1, le=20, json_schema_extra=NOT_IN_FINGERPRINT)
    """Times that one row is asked for while the endpoint is late or broken; each may be billed."""
    patience_s: float = Field(default=300.0, ge=0, json_schema_extra=NOT_IN_FINGERPRINT)
    """Time that a row waits in all for an endpoint that says that it is busy (429), in seconds."""
    max_concurrency: int = Field(default=8, ge=1, le=256, json_schema_extra=NOT_IN_FINGERPRINT)
    """Requests on their way at once, from one actor; `batch_size` rows are asked for together."""
    max_requests_per_minute: float | None = Field(
        default=None, gt=0, json_schema_extra=NOT_IN_FINGERPRINT
    )
    """Requests that one actor begins in a minute; null sets no limit."""
    max_requests: int | None = Field(default=None, ge=1, json_schema_extra=NOT_IN_FINGERPRINT)
    """Requests of a run, repeated ones included, after which it stops; null sets no limit."""
    probe: bool = Field(default=True, json_schema_extra=NOT_IN_FINGERPRINT)
    """Whether the first row of a run is asked for three times, to see if its picture repeats."""

    @model_validator(mode="after")
    def _is_sound(self) -> "Endpoint":
        parts = urlsplit(self.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("endpoint is not an http or https URL")
        if parts.username or parts.password:
            raise ValueError("endpoint holds a user or password: name a variable by api_key_env")
        for name in self.request:
            if name in _OURS or not name.isprintable() or '"' in name:
                raise ValueError(f"request.{name}: the row says it, or no form can hold it")
        dialect = self.form
        given = {"num_inference_steps": self.num_inference_steps or None}
        given["guidance_scale"] = None if self.guidance_scale is None else 1
        for name, value in given.items():
            if value is not None and name not in dialect.settings:
                raise ValueError(f"{name}: the dialect {self.dialect!r} does not send it")
        return self

    @property
    def form(self) -> Dialect:
        """The dialect.

        Raises:
            ValueError: there is none of that name.
        """
        try:
            return find_dialect(self.dialect)
        except UsageError as error:
            raise ValueError(str(error)) from error

    @property
    def shapes(self) -> Shapes:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The shapes of the pictures that the dialect's servers make."""
        return self.form.shapes

    def check_weights(self, checkpoint: Checkpoint) -> None:
        """Checks that the model is named, and that the key is there.

        Raises:
            ValueError: one of them is missing.
        """
        if checkpoint.name == PAPERCUT:
            raise ValueError("checkpoint: name the model as the endpoint does, such as gpt-image-2")
        if self.api_key_env is not None:
            read_api_key(self.api_key_env)

    def weights_identity(self, checkpoint: Checkpoint) -> str:
        """Returns the revision that the recipe names: nothing else is known of a server's."""
        return checkpoint.revision or ""

    def load(self, checkpoint: Checkpoint) -> HostedEditor:
        """Reads the endpoint's key, and starts the threads that ask."""
        key = None if self.api_key_env is None else read_api_key(self.api_key_env)
        dialect = self.form
        name = digest([self.endpoint, self.dialect, checkpoint.name, self.request])
        return HostedEditor(
            server=Server(
                url=f"{self.endpoint.rstrip('/')}/{dialect.path}",
                api_key=key,
                timeout_s=self.timeout_s,
            ),
            dialect=dialect,
            model=checkpoint.name,
            limits=RequestLimits(
                max_concurrency=self.max_concurrency,
                max_per_minute=self.max_requests_per_minute,
                attempts=self.attempts,
                patience_s=self.patience_s,
            ),
            budget=RequestBudget(self.max_requests, name),
            max_concurrency=self.max_concurrency,
            name=name,
            identity=checkpoint.revision or urlsplit(self.endpoint).netloc,
            has_probe=self.probe,
        )

    def free_memory(self, model: HostedEditor, *, exact: bool) -> str | None:
        """Frees nothing: the memory is the server's."""
        del model, exact
        return None

    def notes(self, model: HostedEditor) -> Mapping[str, Any]:
        """Returns what the probe has found."""
        return {"repeats": model.repeats} if model.repeats else {}

    def cost(self, num_inference_steps: int) -> Cost:
        """Counts one request; repeated ones and the probe's two are not known before."""
        del num_inference_steps
        return Cost(requests=1)

    def edit(self, requests: Sequence[EditRequest], model: HostedEditor) -> list[Edited]:
        """Asks for each row; a refusal is `Rejected`, and an answer of no use a `RowError`."""
        pictures = model.edit_each([self._asked(request, model) for request in requests])
        return [
            picture.astype(np.float32) if isinstance(picture, np.ndarray) else picture
            for picture in pictures
        ]

    def _asked(self, request: EditRequest, model: HostedEditor) -> Asked:
        references: Sequence[Pixels] = request.values.get(REFERENCES.name) or ()
        pictures = [request.picture, *map(_fitted, references)]
        mask = None if request.mask is None else np.rint(request.mask * 255).astype(np.uint8)
        edit = ImageEdit(
            model=model.model,
            prompt=request.prompt,
            pictures=tuple(encode(Picture(picture)) for picture in pictures),
            mask=mask,
            size=request.frame.size,
            seed=request.seed,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            more=self.request,
        )
        run_uri: str | None = request.values.get(c.RUN_URI.name)
        return Asked(
            edit=edit,
            dialect=model.dialect,
            key=request.values.get(c.KEY.name),
            answers=KeptAnswers.at(run_uri),
        )


def _fitted(picture: Pixels) -> Pixels:
    """Returns a reference, scaled down where it is longer than any model looks at."""
    image = Image.fromarray(picture)
    image.thumbnail((_MOST_REFERENCE_PX, _MOST_REFERENCE_PX), Image.Resampling.LANCZOS)
    return np.asarray(image)
