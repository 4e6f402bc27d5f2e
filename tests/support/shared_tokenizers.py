"""Texts of all lengths, and tokenizers under many threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

NUM_THREADS = 8
Given = TypeVar("Given")
Result = TypeVar("Result")

ODD_TEXTS = (
    "a",
    ".",
    "A Red CIRCLE, on the left; (very) small!",
    "a   b    c     d",
    "  leading and trailing  ",
    "tab\tand\nline\r\nends",
    "non\u00a0breaking\u3000wide\u200bzero",
    "na\u00efve caf\u00e9 \u2014 na\u0131ve",
    "cafe\u0301 cafe\u0301 cafe\u0301",
    "\u4e00\u53ea\u7ea2\u8272\u7684\u5706" * 6,
    "\u05d0\u05d1\u05d2 \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "\U0001f600",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 5,
    "\U0001f1e9\U0001f1ea flags " * 7,
    "a \x00 nul",
    "<b>bold</b> &amp; {instruction}",
    "<|endoftext|> a circle",
    "<|startoftext|><|endoftext|>" * 9,
    "1234567890" * 7,
    "circle" * 40,
    "a large circle on a white background and " * 8,
    "\ufeffa byte order mark",
)
"""Texts that tokenizers treat in ways of their own."""


def texts_around(num_tokens: int) -> list[str]:
    """Returns texts of one-letter words, from a few tokens below a length to a few above it."""
    return [" ".join("abcdefg"[i % 7] for i in range(n)) for n in range(1, num_tokens + 8)]


def in_threads(call: Callable[[Given], Result], given: Sequence[Given]) -> list[list[Result]]:
    """Makes the same calls in eight threads at once, each from a place of its own on.

    Returns:
        For each thread the results, in the order of `given`.
    """
    barrier = Barrier(NUM_THREADS)

    def calls(thread: int) -> list[Result]:
        order = [(place + 7 * thread) % len(given) for place in range(len(given))]
        barrier.wait()
        results = {place: call(given[place]) for place in order}
        return [results[place] for place in range(len(given))]

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return list(pool.map(calls, range(NUM_THREADS)))
