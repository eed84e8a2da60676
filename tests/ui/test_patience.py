"""Clients that send no request: they keep nobody out."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from ttd_core.ui.patience import PatientProtocol

REFUSED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", REFUSED + b"GET / HT"])
def test_a_connection_whose_request_does_not_come_is_closed(client, monkeypatch, sent) -> None:
    monkeypatch.setattr(PatientProtocol, "PATIENCE", 0.1)
    with contextlib.closing(socket.create_connection(client.host.split(":"), timeout=4)) as connection:
        connection.sendall(sent)
        while connection.recv(65536):
            pass


def test_a_page_that_is_open_stays_so(client, monkeypatch) -> None:
    monkeypatch.setattr(PatientProtocol, "PATIENCE", 0.05)
    stream = client.follow("/stream?run=first")
    next(stream)
    with contextlib.closing(socket.create_connection(client.host.split(":"), timeout=4)) as connection:
        headers = f"Host: {client.host}\r\nAuthorization: Bearer {client.token}\r\n\r\n"
        connection.sendall(f"GET /stream?run=first HTTP/1.1\r\n{headers}".encode())
        connection.recv(65536)
        time.sleep(0.3)
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                assert connection.recv(65536)
    stream.close()
