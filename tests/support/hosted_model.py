"""A server with OpenAI's chat-completions interface, for tests of what asks a hosted model."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """A hosted model: answers each request as `reply` says and keeps what it was asked."""

    def __init__(self, reply: Callable[[int], tuple[int, dict]]) -> None:
        self.asked: list[dict] = []
        self.headers: list[dict] = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        keeper = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with keeper._lock:
                    keeper.asked.append({**body, "path": self.path})
                    keeper.headers.append(dict(self.headers))
                    keeper.at_once += 1
                    keeper.most_at_once = max(keeper.most_at_once, keeper.at_once)
                    number = len(keeper.asked)
                time.sleep(0.05)
                status, found = reply(number)
                with keeper._lock:
                    keeper.at_once -= 1
                data = json.dumps(found).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", found["to"])
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def said(text: str | None, **more: object) -> tuple[int, dict]:
    message = {"role": "assistant", "content": text, **more}
    return 200, {"choices": [{"message": message, "finish_reason": "stop"}]}
