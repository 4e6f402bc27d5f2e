"""Instructions as messages of a chat, in which verl-omni's tables hold them."""

from typing import Any

import pyarrow as pa

MESSAGES = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))
"""The type of a column of messages."""
SYSTEM = (
    "Look at the picture: what is in it, its colours, shapes, textures and background. Then say "
    "what the user's instruction changes, and make a new picture that follows it and keeps the "
    "rest as it is."
)
PICTURE = "<image>"
"""Place of the source image in a message."""


def asked(instruction: str) -> list[dict[str, str]]:
    """Returns the messages that ask for an edit of one picture."""
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"Picture 1: {PICTURE}{instruction}"},
    ]


def fault_of_messages(messages: Any) -> str | None:
    """Returns what is wrong with the messages of a row; None where nothing is."""
    users = [m for m in messages or [] if m.get("role") == "user"]
    if not users or not (users[-1].get("content") or "").rpartition(PICTURE)[2].strip():
        return "prompt has no message with an instruction"
    if users[-1]["content"].count(PICTURE) != 1:
        return f"prompt has not one {PICTURE}, as there is one picture"
    return None
