"""Replies of hosted models, kept in a folder by the question: what was answered is not asked again.

A run that is killed has paid for answers that no result holds yet; with a cache it goes on without
paying twice, and a row that is done again has the same answer.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from overpaint.pipeline.identity import canonical_json, sha256
from overpaint.pipeline.storage.store import Storage


@dataclass(frozen=True, slots=True)
class ReplyCache:
    """Replies by URL and body of the request.

    Attributes:
        storage: folder or prefix that holds one small JSON file for each reply.
    """

    storage: Storage

    def find(self, url: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns the reply that was kept for a request; None where there is none."""
        try:
            found = json.loads(self.storage.read(_path(url, body)))
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def keep(self, url: str, body: Mapping[str, Any], reply: Mapping[str, Any]) -> None:
        """Keeps the reply to a request."""
        self.storage.write(_path(url, body), json.dumps(reply).encode())


def _path(url: str, body: Mapping[str, Any]) -> str:
    key = sha256(canonical_json([url, body]).encode())
    return f"{key[:2]}/{key}.json"
