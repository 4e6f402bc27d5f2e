"""Content security policy of the pages: their own style, script and pictures, and nothing else."""

from base64 import b64encode
from hashlib import sha256


def content_security_policy(style: str, script: str | None = None) -> str:
    """Returns the policy of a page.

    Args:
        style: text of the page's style element.
        script: text of its script element; None where it has none.
    """
    parts = ["default-src 'none'", "img-src data:", f"style-src {_hash_source(style)}"]
    parts += [f"script-src {_hash_source(script)}"] if script is not None else []
    return "; ".join((*parts, "base-uri 'none'", "form-action 'none'"))


def _hash_source(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
