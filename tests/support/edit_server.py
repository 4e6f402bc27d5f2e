"""A server with images/edits over real HTTP, for tests of what asks for edits.

It takes the forms that OpenAI, vLLM-Omni and SGLang take, checks them as those do and more strictly
(a field that a server would silently ignore is an error here), and answers with the picture
inverted and tinted by the seed. `script` says what comes before that for a prompt.
"""

import base64
import io
import json
import threading
import time
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

MODEL = "painter-1"
_TEXT = {"prompt": str, "model": str, "user": str, "n": int, "size": str}
_ENGINE = {
    **_TEXT,
    "response_format": str,
    "output_format": str,
    "seed": int,
    "generator_device": str,
    "negative_prompt": str,
    "num_inference_steps": int,
    "guidance_scale": float,
    "true_cfg_scale": float,
}
FIELDS: dict[str, dict[str, Any]] = {
    "openai": {**_TEXT, "quality": str, "background": str, "input_fidelity": str},
    "vllm-omni": {**_ENGINE, "strength": float, "lora": str},
    "sglang": {**_ENGINE, "enable_teacache": str, "output_quality": str},
}
MASKS = {"openai": "mask", "vllm-omni": "mask_image", "sglang": "mask"}


@dataclass
class Reply:
    """An answer other than the usual one.

    Attributes:
        status: HTTP status; 200 with a `body` is sent as it is.
        body: JSON value.
        headers: further headers.
        is_cut: whether only half of the body is sent.
        picture: what becomes of the usual picture: `cut`, `wide`, `half` or `text`.
        hangs: whether the answer waits until the server is released.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    is_cut: bool = False
    picture: str = ""
    hangs: bool = False


@dataclass
class Request:
    """A request as it came: fields, the files of each name in order, and when."""

    fields: dict[str, str]
    files: dict[str, list[bytes]]
    headers: dict[str, str]
    at_s: float

    @property
    def prompt(self) -> str:
        return self.fields["prompt"]

    @property
    def pictures(self) -> list[bytes]:
        return self.files.get("image", []) + self.files.get("image[]", [])


class BadRequestError(Exception):
    """What a server says of a form that it does not take."""


class EditServer:
    """A server of one dialect; made to repeat itself, or not."""

    def __init__(self, dialect: str, *, repeats: bool = True, api_key: str | None = None) -> None:
        self.dialect, self.repeats, self.api_key = dialect, repeats, api_key
        self.asked: list[Request] = []
        self.script: dict[str, list[Reply]] = {}
        self.most_at_once = self._at_once = 0
        self.gather = 1
        self.released = threading.Event()
        self._changed = threading.Condition()
        keeper = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                keeper._serve(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def times(self) -> dict[str, int]:
        """How often each prompt was asked for."""
        prompts = [request.prompt for request in self.asked]
        return {prompt: prompts.count(prompt) for prompt in prompts}

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        request = _parsed(handler, body)
        with self._changed:
            self.asked.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most_at_once >= self.gather, timeout=10)
            replies = self.script.get(request.prompt)
            reply = replies.pop(0) if replies else Reply()
        if reply.hangs:
            self.released.wait(30)
        status, found = self._found(handler.path, request, reply)
        with self._changed:
            self._at_once -= 1
        _send(handler, status, found, reply)

    def _found(self, path: str, request: Request, reply: Reply) -> tuple[int, Any]:
        if reply.body is not None or reply.status != 200:
            return reply.status, reply.body or {}
        if self.api_key and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return 401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}
        if path != "/v1/images/edits":
            return 404, {"detail": "Not Found"}
        try:
            picture = self._edited(request)
        except BadRequestError as error:
            is_openai = self.dialect == "openai"
            return 400, {"error": {"message": str(error)}} if is_openai else {"detail": str(error)}
        data = base64.b64encode(_spoilt(picture, reply.picture)).decode()
        return 200, {"created": 1, "data": [{"b64_json": data}]}

    def _edited(self, request: Request) -> Image.Image:
        source = self._checked(request)
        width, height = (int(side) for side in request.fields["size"].split("x"))
        pixels = 255 - np.asarray(source.resize((width, height)), np.int64)
        seed = int(request.fields.get("seed", 0)) if self.repeats else len(self.asked)
        return Image.fromarray(((pixels + seed % 97) % 256).astype(np.uint8))

    def _checked(self, request: Request) -> Image.Image:
        known = FIELDS[self.dialect]
        for name, value in request.fields.items():
            if name not in known:
                raise BadRequestError(f"Unknown parameter: '{name}'.")
            known[name](value)
        if "prompt" not in request.fields or not request.pictures:
            raise BadRequestError("Field 'image' and 'prompt' are required")
        if request.fields.get("model") != MODEL:
            raise BadRequestError(f"the server runs {MODEL!r}")
        if {*request.files} - {"image", "image[]", MASKS[self.dialect]}:
            raise BadRequestError(f"files {[*request.files]}")
        pictures = [Image.open(io.BytesIO(data)) for data in request.pictures]
        self._check_options(request)
        for data in request.files.get(MASKS[self.dialect], []):
            self._check_mask(Image.open(io.BytesIO(data)), pictures[0])
        return pictures[0].convert("RGB")

    def _check_options(self, request: Request) -> None:
        given = request.fields
        if self.dialect == "openai":
            if given["size"] not in ("1024x1024", "1536x1024", "1024x1536", "32x32", "48x32"):
                raise BadRequestError(f"Invalid size '{given['size']}'")
        elif given["response_format"] != "b64_json" or given["generator_device"] != "cpu":
            raise BadRequestError("ask for base64, and for noise of the CPU")

    def _check_mask(self, mask: Image.Image, picture: Image.Image) -> None:
        if mask.size != picture.size:
            raise BadRequestError("the mask is not of the picture's size")
        if mask.mode != ("L" if self.dialect == "vllm-omni" else "RGBA"):
            raise BadRequestError(f"a mask of mode {mask.mode}")


def _parsed(handler: BaseHTTPRequestHandler, body: bytes) -> Request:
    head = f"Content-Type: {handler.headers['Content-Type']}\r\n\r\n".encode()
    form = BytesParser().parsebytes(head + body)
    fields: dict[str, str] = {}
    files: dict[str, list[bytes]] = {}
    for part in form.get_payload():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if part.get_filename() is None:
            fields[name] = content.decode()
        else:
            files.setdefault(name, []).append(content)
    return Request(fields, files, dict(handler.headers), time.monotonic())


def _spoilt(picture: Image.Image, how: str) -> bytes:
    if how == "text":
        return b"a letter and no picture"
    if how == "wide":
        picture = picture.resize((picture.width * 2, picture.height))
    if how == "half":
        picture = picture.resize((picture.width // 2, picture.height // 2))
    out = io.BytesIO()
    picture.save(out, "PNG")
    data = out.getvalue()
    return data[: len(data) // 2] if how == "cut" else data


def _send(handler: BaseHTTPRequestHandler, status: int, found: Any, reply: Reply) -> None:
    data = json.dumps(found).encode()
    handler.send_response(status)
    for name, value in {**reply.headers, "Content-Length": str(len(data))}.items():
        handler.send_header(name, value)
    try:
        handler.end_headers()
        handler.wfile.write(data[: len(data) // 2] if reply.is_cut else data)
        handler.wfile.flush()
    except OSError:  # whoever asked has gone
        return
    if reply.is_cut:
        handler.connection.close()
