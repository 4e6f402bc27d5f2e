"""An OpenAI-compatible server that behaves badly: late, busy, broken, cut off, or talking nonsense.

It is a real HTTP server. `act` says what it does with each request; what it was asked, and how many
requests it had at once, is kept.
"""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Act:
    """What the server does with one request."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut: int = 0
    """Bytes of the body that never arrive: the connection is closed before them."""
    drip_s: float = 0.0
    """Seconds between two bytes of the body."""
    hang_up: bool = False
    """Whether the connection is closed without an answer."""


def says(text: str, *, finish: str = "stop", tokens: int = 10, logprobs=None, **more) -> Act:
    """An answer of the model."""
    choice = {"message": {"role": "assistant", "content": text, **more}, "finish_reason": finish}
    if logprobs is not None:
        choice["logprobs"] = logprobs
    answer = {"choices": [choice], "usage": {"total_tokens": tokens}}
    return Act(body=json.dumps(answer).encode())


def busy(seconds: float | str) -> Act:
    """The answer of a server that wants to be left alone for a while."""
    return Act(429, b"{}", {"Retry-After": str(seconds)})


def words_of(asked: dict) -> str:
    """The text of the first turn of a request."""
    return asked["messages"][0]["content"][-1]["text"]


class MoodyServer:
    """The server; `act` is given the number of the request, from 1, and what it asks."""

    def __init__(self, act: Callable[[int, dict], Act]) -> None:
        self.asked: list[dict] = []
        self.times_s: list[float] = []
        self.at_once = self.most_at_once = 0
        self._act = act
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _begin(self, asked: dict) -> int:
        with self._lock:
            self.asked.append(asked)
            self.times_s.append(time.monotonic())
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            return len(self.asked)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        keeper = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                act = keeper._act(keeper._begin(asked), asked)
                time.sleep(act.delay_s)
                with keeper._lock:
                    keeper.at_once -= 1
                with suppress(OSError):  # the client has gone: it did not want to wait
                    self._answer(act)

            def _answer(self, act: Act) -> None:
                if act.hang_up:
                    self.close_connection = True
                    return
                self.send_response(act.status)
                for name, value in act.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(act.body)))
                self.end_headers()
                sent = act.body[: len(act.body) - act.cut]
                if not act.drip_s:
                    self.wfile.write(sent)
                for byte in sent if act.drip_s else b"":
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(act.drip_s)
                self.close_connection = True

            def log_message(self, *args: object) -> None:
                pass

        return Handler
