"""SIGTERM: what is under way is finished, nothing new begins, and the process ends well."""

from __future__ import annotations

import base64
import signal
import socket

from tests.gateway import Client
from tests.journeys.served import Served
from tests.servers.process import wait_until


def begun(served: Served, client: Client, body: bytes) -> socket.socket:
    """A token request of which the server waits for the body: it has said so."""
    connection = socket.create_connection(served.address, timeout=30)
    password = base64.b64encode(f"{client.client_id}:{client.secret}".encode()).decode()
    connection.sendall(
        f"POST /t/{client.slug}/oauth2/token HTTP/1.1\r\n"
        f"Host: {served.address[0]}\r\n"
        f"Authorization: Basic {password}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Expect: 100-continue\r\n\r\n".encode()
    )
    assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
    return connection


def refuses(served: Served) -> bool:
    try:
        socket.create_connection(served.address, timeout=1).close()
    except ConnectionError:
        return True
    return False


def test_a_request_under_way_is_answered_before_the_process_ends(served: Served) -> None:
    admin = served.onboard()
    body = b"grant_type=client_credentials"
    with begun(served, admin, body) as connection:
        served.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(served), served.process, served.output, "the shutdown")
        assert served.process.poll() is None
        connection.sendall(body)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"access_token"' in answer
    assert served.process.wait(30) == 0
    [issued] = [line for line in served.log() if line.get("path") == "/t/acme/oauth2/token"]
    assert issued["status"] == 200


def test_a_connection_that_waits_for_nothing_holds_nothing_up(served_in_memory: Served) -> None:
    served_in_memory.onboard()
    with socket.create_connection(served_in_memory.address, timeout=30) as idle:
        idle.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b'{"status":"ok"}'):
            answer += idle.recv(4096)
        assert served_in_memory.terminate() == 0
        assert idle.recv(4096) == b""


def test_ctrl_c_ends_it_as_well(served_in_memory: Served) -> None:
    served_in_memory.onboard()
    served_in_memory.process.send_signal(signal.SIGINT)
    assert served_in_memory.process.wait(30) == 0
