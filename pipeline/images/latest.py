"""The latest decoded pictures: the stages of a group ask for them in turn."""

from collections import OrderedDict
from threading import Lock

from overpaint.pipeline.images.picture import Picture


class Latest:
    """Latest decoded pictures that together stay under a number of bytes; always one at least."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._pictures: OrderedDict[bytes, Picture] = OrderedDict()
        self._lock = Lock()

    def get(self, data: bytes) -> Picture | None:
        """Returns the picture of an encoded image; None where it is not remembered."""
        with self._lock:
            picture = self._pictures.get(data)
            if picture is not None:
                self._pictures.move_to_end(data)
            return picture

    def put(self, data: bytes, picture: Picture) -> None:
        """Remembers a picture, and forgets those that were not asked for longest."""
        with self._lock:
            if data not in self._pictures:
                self._pictures[data] = picture
                self._num_bytes += _num_bytes(data, picture)
            # The latest stays whatever its size: it is the one that is asked for again.
            while self._num_bytes > self._max_bytes and len(self._pictures) > 1:
                self._num_bytes -= _num_bytes(*self._pictures.popitem(last=False))

    def release(self, data: bytes) -> None:
        """Lets the picture of an encoded image, where it is remembered, be forgotten before others.

        Stages ask for pictures in turn, so that those of a task that ends are the latest.
        """
        with self._lock:
            if data in self._pictures:
                self._pictures.move_to_end(data, last=False)


def _num_bytes(data: bytes, picture: Picture) -> int:
    alpha = picture.alpha.nbytes if picture.alpha is not None else 0
    return len(data) + picture.rgb.nbytes + alpha
