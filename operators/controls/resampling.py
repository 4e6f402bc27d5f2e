"""Resampling of RePaint (arXiv 2201.09865), which DDNM (arXiv 2212.00490) calls time travel.

A run goes back towards noise again and again, so that what is filled in comes to fit what is known.
"""

from collections.abc import Iterator
from typing import NamedTuple


class Move(NamedTuple):
    """One step between two levels of a schedule, whose step 0 is the noisiest.

    Attributes:
        step_index: index of the step.
        is_up: True walks the step back, from clean to noisy; nothing is predicted there.
    """

    step_index: int
    is_up: bool = False


def resampled(num_steps: int, jump_length: int, jump_n_sample: int) -> Iterator[Move]:
    """Yields the moves of a run with jumps: `get_schedule_jump` of RePaint's official code.

    Args:
        num_steps: steps of the schedule.
        jump_length: steps that a jump goes back.
        jump_n_sample: visits of a level at which jumps begin; 1 for none. Such levels are
            `jump_length` steps apart, the last of them before the last step.
    """
    last = num_steps - 1
    jumps = dict.fromkeys(range(last, jump_length - 1, -jump_length), jump_n_sample - 1)
    next_index = 0
    while next_index < num_steps:
        yield Move(next_index)
        next_index += 1
        if jumps.get(next_index, 0) > 0:
            jumps[next_index] -= 1
            for _ in range(jump_length):
                next_index -= 1
                yield Move(next_index, is_up=True)
