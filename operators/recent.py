"""Values that were used last, such as the index of a tar, or a prompt's embedding."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Values that were asked for last, up to a total size; each is made once at a time.

    Args:
        max_size: largest total size; the latest value is kept in any case.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._lock = Lock()
        self._making: dict[Hashable, Lock] = {}
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()

    def get(
        self, key: Hashable, make: Callable[[], T], size: Callable[[T], int] = lambda _: 1
    ) -> T:
        """Returns the value of a key, which is made where it is not there.

        Args:
            key: what equal values have in common.
            make: makes the value.
            size: tells a value's size, in the unit of `max_size`.
        """
        with self._lock:
            making = self._making.setdefault(key, Lock())
        with making:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key][0]
            value = make()
            with self._lock:
                self._making.pop(key, None)
                self._values[key] = (value, size(value))
                while len(self._values) > 1 and self._size() > self._max_size:
                    self._values.popitem(last=False)
            return value

    def __iter__(self) -> Iterator[Hashable]:
        return iter(list(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def clear(self) -> None:
        """Forgets all values."""
        with self._lock:
            self._values.clear()

    def _size(self) -> int:
        return sum(size for _, size in self._values.values())
