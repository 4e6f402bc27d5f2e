"""Token authentication of Ray clusters: who reaches one without it runs code on it.

Ray's dashboard, job server and control store run any code that they are sent; only a token, which
Ray asks for where `RAY_AUTH_MODE=token`, keeps others out.
"""

import ipaddress
import os
import urllib.error
import urllib.request
from collections.abc import Iterable
from urllib.parse import urlsplit

from overpaint.pipeline.errors import UsageError

_TIMEOUT_S = 10


def require_token_auth(name: str, hosts: Iterable[str], dashboard_url: str | None) -> None:
    """Refuses a cluster that asks for no token.

    Args:
        name: name of the cluster, for people.
        hosts: addresses of its machines; one that only this machine reaches is not open to others.
        dashboard_url: URL of its dashboard; without it the mode of this process decides.

    Raises:
        UsageError: the cluster is open to others; says what to do.
    """
    if all(_is_loopback(host) for host in hosts):
        return
    asks = asks_for_token(dashboard_url) if dashboard_url else None
    if asks or (asks is None and os.environ.get("RAY_AUTH_MODE") == "token"):
        return
    raise UsageError(
        f"{name}: this Ray cluster asks for no token, so that everyone who reaches it runs code on "
        "it: start it with RAY_AUTH_MODE=token, or pass --insecure-cluster where nobody else can"
    )


def asks_for_token(dashboard_url: str) -> bool | None:
    """Tells whether a dashboard refuses a request without a token; None where none answers."""
    url = dashboard_url if "://" in dashboard_url else f"http://{dashboard_url}"
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/api/version", timeout=_TIMEOUT_S):
            return False
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)
    except (OSError, ValueError):
        return None


def host_of(url: str) -> str:
    """Returns the host of a URL, or of a `host:port`."""
    return urlsplit(url if "://" in url else f"//{url}").hostname or ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
