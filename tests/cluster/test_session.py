import socket

import pytest
from overpaint.cluster.ray.session import Session, connected
from overpaint.pipeline.errors import UsageError


def test_cluster_that_does_not_answer_is_said_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(UsageError, match=f"no Ray cluster answers at {address}"),
            connected(Session(address=address)),
        ):
            pass
