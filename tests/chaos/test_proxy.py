import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.chaos.proxy import Proxy
from tests.processes import wait_until


@pytest.fixture
def far() -> Iterator[socket.socket]:
    """A server that answers nothing by itself."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(5)
        yield server


@pytest.fixture
def line(far: socket.socket) -> Iterator[Proxy]:
    proxy = Proxy(far.getsockname()[1])
    proxy.start()
    yield proxy
    proxy.stop()


def connect(line: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", line.port), timeout=5)


def test_it_carries_both_ways(far: socket.socket, line: Proxy) -> None:
    with connect(line) as near, far.accept()[0] as server:
        near.sendall(b"ask")
        assert server.recv(10) == b"ask"
        server.sendall(b"answer")
        assert near.recv(10) == b"answer"


def test_cut_it_ends_every_connection_and_refuses_new_ones(far: socket.socket, line: Proxy) -> None:
    with connect(line) as near, far.accept()[0] as server:
        near.sendall(b"ask")
        assert server.recv(10) == b"ask"
        line.cut()
        assert is_ended(near)
        assert is_ended(server)
    with connect(line) as refused:
        assert is_ended(refused)
    line.heal()
    wait_until(lambda: carries(far, line), "the line to carry again")


def test_silent_it_keeps_connections_and_delivers_afterwards(far: socket.socket, line: Proxy) -> None:
    with connect(line) as near, far.accept()[0] as server:
        near.sendall(b"one")
        assert server.recv(10) == b"one"
        line.fall_silent()
        near.sendall(b"two")
        server.settimeout(0.5)
        with pytest.raises(TimeoutError):
            server.recv(10)
        server.settimeout(5)
        line.heal()
        assert server.recv(10) == b"two"


def is_ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(10) == b""
    except ConnectionError:
        return True


def carries(far: socket.socket, line: Proxy) -> bool:
    with connect(line) as near, far.accept()[0] as server:
        near.sendall(b"again")
        return server.recv(10) == b"again"
