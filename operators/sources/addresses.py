"""Network addresses that a URL of a table may lead to.

A table is written by others: a URL in it must not reach the machine's own services, its neighbours
or a cloud's metadata service. A name is resolved once, all its addresses are checked, and the
connection is made to one of them, so that the name cannot lead elsewhere in between.
"""

import ipaddress
import socket
from contextlib import suppress
from typing import Any, NamedTuple

from overpaint.pipeline.errors import RowError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Endpoint(NamedTuple):
    """An address of a host, as `socket.connect` takes it.

    Attributes:
        family: IPv4 or IPv6.
        sockaddr: host and port.
    """

    family: socket.AddressFamily
    sockaddr: Any


def is_public(address: Address) -> bool:
    """Tells whether an address, with any IPv4 address within it, is of the open internet."""
    if isinstance(address, ipaddress.IPv6Address) and (inner := _embedded(address)):
        return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


def connect(host: str, port: int, timeout_s: float, *, allow_private: bool) -> socket.socket:
    """Opens a connection to a host, if all its addresses are allowed.

    Args:
        host: name or address.
        port: port of the service.
        timeout_s: limit of each attempt.
        allow_private: whether addresses outside the open internet are allowed too.

    Raises:
        RowError: `source_forbidden`.
        OSError: the host has no address, or none of them answers.
    """
    endpoints = _resolve(host, port)
    if not allow_private:
        for endpoint in endpoints:
            if not is_public(ipaddress.ip_address(str(endpoint.sockaddr[0]).split("%", 1)[0])):
                raise RowError(
                    "source_forbidden",
                    "the URL leads to a private, loopback or link-local address; "
                    "allow_private_hosts names hosts that may have one",
                )
    return _first_connection(endpoints, timeout_s)


def _resolve(host: str, port: int) -> list[Endpoint]:
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [Endpoint(family, sockaddr) for family, _, _, _, sockaddr in addresses]


def _first_connection(endpoints: list[Endpoint], timeout_s: float) -> socket.socket:
    last_error: OSError | None = None
    for endpoint in endpoints:
        connection = socket.socket(endpoint.family, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        try:
            connection.connect(endpoint.sockaddr)
        except OSError as error:
            connection.close()
            last_error = error
        else:
            return connection
    raise last_error or OSError("the host has no address")


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Returns the IPv4 address that an IPv6 address leads to; None where it leads to none."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    with suppress(TypeError):
        return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    return None
