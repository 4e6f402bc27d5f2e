"""Which network addresses a URL of a table may lead to.

A table is written by others: a URL in it must not reach the machine's own services, its neighbours
or a cloud's metadata service. Names are resolved once, all their addresses are looked at, and the
connection is made to one of those, so that a name cannot change its mind in between.
"""

import ipaddress
import socket
from contextlib import suppress
from typing import Any, NamedTuple

from overpaint.pipeline.errors import RowError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Place(NamedTuple):
    """An address that a host name stands for, as `socket.connect` takes it."""

    family: socket.AddressFamily
    sockaddr: Any


def is_public(address: Address) -> bool:
    """Whether an address belongs to the open internet, and so does any IPv4 address within it."""
    if isinstance(address, ipaddress.IPv6Address) and (inner := _embedded(address)):
        return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


def connect(host: str, port: int, timeout_s: float, *, allow_private: bool) -> socket.socket:
    """Opens a connection to a host, if all its addresses are allowed.

    Args:
        host: a name or an address.
        port: of the service.
        timeout_s: for each attempt.
        allow_private: whether addresses outside the open internet are allowed too.

    Raises:
        RowError: `source_forbidden`.
        OSError: the host has no address, or none of them answers.
    """
    places = _places(host, port)
    if not allow_private:
        for place in places:
            if not is_public(ipaddress.ip_address(str(place.sockaddr[0]).split("%", 1)[0])):
                raise RowError(
                    "source_forbidden",
                    "the URL leads to a private, loopback or link-local address; "
                    "allow_private_hosts names hosts that may have one",
                )
    return _first_connection(places, timeout_s)


def _places(host: str, port: int) -> list[Place]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [Place(family, sockaddr) for family, _, _, _, sockaddr in found]


def _first_connection(places: list[Place], timeout_s: float) -> socket.socket:
    trouble: OSError | None = None
    for place in places:
        connection = socket.socket(place.family, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        try:
            connection.connect(place.sockaddr)
        except OSError as error:
            connection.close()
            trouble = error
        else:
            return connection
    raise trouble or OSError("the host has no address")


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to; null where it leads to none."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    with suppress(TypeError):
        return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    return None
