"""A proxy in front of an S3 server that can slow, throttle, tear or refuse requests.

The proxy relays HTTP/1.1 over TCP, request by request, and signs nothing: clients sign for the
address they call, which is the proxy's, and the server sees that address too.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Literal, NamedTuple

Mode = Literal["good", "slow", "throttled", "torn", "absent"]

_SLOW_S = 0.25
_EVERY = 3
"""The modes throttled and torn disturb every third request or body."""
_CHUNK = 2**16
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_HEAD_END = b"\r\n\r\n"
_BODY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_SLOW_DOWN = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


class _Message(NamedTuple):
    """A request or a response without its body.

    Attributes:
        head: request line or status line, and headers, as they came.
        length: length of the body in bytes; -1 for a body that comes in chunks.
    """

    head: bytes
    length: int


class _TornError(ConnectionError):
    """A connection that the proxy cuts."""


class Proxy:
    """A relay from a local port to another, which disturbs requests according to its mode.

    Args:
        upstream_port: port of the server on this machine.
        port: port to listen on.

    Attributes:
        port: port to listen on.
        num_disturbed: requests that were slowed or throttled, and bodies and connections that
            were cut.
    """

    def __init__(self, upstream_port: int, port: int) -> None:
        self.port = port
        self.num_disturbed = 0
        self._upstream_port = upstream_port
        self._mode: Mode = "good"
        self._count = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()

    @contextmanager
    def running(self) -> Generator["Proxy"]:
        """Serves from a thread of its own inside the context."""
        thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        thread.start()
        self._call(self._listen())
        try:
            yield self
        finally:
            self._call(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def set_mode(self, mode: Mode) -> None:
        """Changes the mode from the next request on; `absent` also cuts open connections."""
        self._call(self._set_mode(mode))

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        done: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.result(timeout=30)

    async def _set_mode(self, mode: Mode) -> None:
        self._mode = mode
        if mode == "absent":
            await self._close()
        elif self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._open:
            self.num_disturbed += self._mode == "absent"
            writer.transport.abort()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Relays requests until the client hangs up, each to a connection of its own."""
        self._open.add(to_client)
        # A client or a server that goes away ends this connection, and nothing else.
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._relay(client, to_client):
                pass
            await to_client.drain()
        self._open.discard(to_client)
        to_client.close()

    async def _relay(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> bool:
        """Relays one request and its response; returns False where the connection is to end."""
        request = await _message(client, _length)
        expects = bool(_header(request.head, b"expect"))
        if self._is_due("throttled"):
            # A client that is cut off while it sends never sees the response.
            await client.readexactly(0 if expects else request.length)
            to_client.write(_SLOW_DOWN)
            return False
        if self._mode == "slow":
            self.num_disturbed += 1
            await asyncio.sleep(_SLOW_S)
        if expects:
            to_client.write(_CONTINUE)
        server, to_server = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        try:
            to_server.write(_without(request.head, b"expect"))
            await self._body(client, to_server, request.length, to_client)
            await self._respond(request, server, to_client)
        finally:
            to_server.transport.abort()
        return True

    async def _respond(
        self, request: _Message, server: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        response = await _message(server, lambda head: _response_length(request.head, head))
        to_client.write(response.head)
        if response.length >= 0:
            await self._body(server, to_client, response.length, to_client)
        else:
            await _chunks(server, to_client)

    async def _body(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        length: int,
        to_client: asyncio.StreamWriter,
    ) -> None:
        """Relays a body; only half of it where the body is to be torn."""
        torn = length > 1 and self._is_due("torn")
        left = length // 2 if torn else length
        while left:
            data = await source.read(min(left, _CHUNK))
            if not data:
                raise ConnectionError("hung up within a body")
            sink.write(data)
            await sink.drain()
            left -= len(data)
        if torn:
            to_client.transport.abort()
            raise _TornError

    def _is_due(self, mode: Mode) -> bool:
        """Tells whether the mode disturbs this request; the same count gives the same requests."""
        if self._mode != mode:
            return False
        self._count += 1
        is_due = self._count % _EVERY == 0
        self.num_disturbed += is_due
        return is_due


async def _message(source: asyncio.StreamReader, length: Callable[[bytes], int]) -> _Message:
    head = await source.readuntil(_HEAD_END)
    return _Message(head, length(head))


async def _chunks(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Relays a chunked body."""
    while True:
        line = await source.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        sink.write(line + await source.readexactly(size + 2))
        await sink.drain()
        if size == 0:
            return


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""


def _without(head: bytes, name: bytes) -> bytes:
    lines = head.split(b"\r\n")
    return b"\r\n".join(line for line in lines if line.partition(b":")[0].strip().lower() != name)


def _length(head: bytes) -> int:
    return int(_header(head, b"content-length") or 0)


def _response_length(request: bytes, head: bytes) -> int:
    """Returns the length of a response's body in bytes; -1 where it comes in chunks."""
    status = int(head.split(b" ", 2)[1])
    if request.startswith(b"HEAD ") or status in (204, 304):
        return 0
    return -1 if b"chunked" in _header(head, b"transfer-encoding") else _length(head)
