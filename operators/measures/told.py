"""What a model told: a reply in words, and where it is known the chances of its tokens."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class TokenChoice(NamedTuple):
    """Token of a reply, and the tokens that could have stood in its place.

    Attributes:
        text: text of the token.
        choices: probability of each of the likeliest tokens, by its text.
    """

    text: str
    choices: Mapping[str, float]


class Told(NamedTuple):
    """Reply of a model.

    Attributes:
        text: reply in words.
        tokens: tokens of the reply; none where they are not known.
        num_pictures: pictures that the question showed.
    """

    text: str
    tokens: tuple[TokenChoice, ...] = ()
    num_pictures: int = 0


class Expectation(NamedTuple):
    """Distribution of a number that a token states.

    Attributes:
        mean: expected value, over the tokens that are numbers.
        std: standard deviation over them.
        mass: probability that the token is one of the numbers at all, 0 to 1.
    """

    mean: float
    std: float
    mass: float


LEAST_MASS = 0.5
"""Least probability of the numbers: a model that would rather say something else tells none."""


def expectation(choice: TokenChoice, numbers: Iterable[int]) -> Expectation | None:
    """Returns the distribution of the number that a token states.

    Args:
        choice: token with its alternatives.
        numbers: numbers that count, each of which is one token.

    Returns:
        None where the numbers together are less likely than `LEAST_MASS`.

    Example:
        >>> expectation(TokenChoice("4", {"4": 0.5, "2": 0.5}), range(6)).mean
        3.0
    """
    weights = dict.fromkeys((str(number) for number in numbers), 0.0)
    for text, probability in choice.choices.items():
        if text.strip() in weights:
            weights[text.strip()] += probability
    mass = sum(weights.values())
    if not LEAST_MASS <= mass < math.inf:
        return None
    mean = sum(int(text) * weight for text, weight in weights.items()) / mass
    variance = sum((int(text) - mean) ** 2 * weight for text, weight in weights.items()) / mass
    return Expectation(round(mean, 6), round(math.sqrt(variance), 6), round(min(mass, 1.0), 6))
