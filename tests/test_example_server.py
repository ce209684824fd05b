"""The example's server: steps of many clients, in batches, over HTTP."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_examples import EXAMPLES, load, refused, run

from fastlstm.layers import LSTM, Activation, Bidirectional, Dense, Input
from fastlstm.models import Sequential

FEATURES, PLACES, STEPS = 3, 4, 12
serve = load("serve_streams")


class Recorded:
    """A stream that remembers the rows of its steps, and can be made slow, or to fail."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.rows, self.fails, self.seconds = stream, [], False, 0.0

    def step(self, x: np.ndarray, rows: list[int]) -> np.ndarray:
        self.rows.append(rows)
        time.sleep(self.seconds)
        if self.fails:
            raise FloatingPointError("made to fail")
        return self.stream.step(x, rows=rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@pytest.fixture
def model() -> Sequential:
    return Sequential([LSTM(5, input_shape=(None, FEATURES)), Dense(2)])


@pytest.fixture
def server(model: Sequential) -> Iterator[Any]:
    """Does not wait for others, unless a test has it do so."""
    batcher = serve.Batcher(model, places=PLACES, wait=0)
    batcher.stream = Recorded(batcher.stream)
    with serve.Server(("127.0.0.1", 0), batcher) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
        batcher.close()
    assert not batcher.thread.is_alive()


class Client:
    """One connection."""

    def __init__(self, server: Any) -> None:
        self.connection = http.client.HTTPConnection(*server.server_address, timeout=60)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body)
        self.connection.request(method, path, sent)
        answer = self.connection.getresponse()
        assert answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(answer.read())

    def step(self, name: str, values: np.ndarray) -> np.ndarray:
        status, found = self.ask("POST", "/step", {"client": name, "values": values.tolist()})
        assert status == 200, found
        return np.array(found["output"], "float32")


@pytest.fixture
def connect(server: Any) -> Iterator[Callable[[], Client]]:
    """Makes clients of the server, whose connections are closed before it is."""
    clients = []

    def made() -> Client:
        clients.append(Client(server))
        return clients[-1]

    yield made
    for client in clients:
        client.connection.close()


def together(*calls: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def sequences(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, STEPS, FEATURES)).astype("float32")


def predicted(model: Sequential, x: np.ndarray) -> np.ndarray:
    """Of every beginning of one sequence, (T, 2)."""
    return np.concatenate([model.predict(x[None, : t + 1], verbose=0) for t in range(len(x))])


def test_each_client_gets_what_its_own_sequence_predicts(
    server: Any, connect: Callable[[], Client], model: Sequential
) -> None:
    x = sequences(PLACES)
    clients = [connect() for _ in x]
    for k, client in enumerate(clients):
        client.step(f"{k}", x[k, 0])
    first = len(server.batcher.stream.rows)
    server.batcher.wait = 30  # until every batch is full

    def rest(k: int) -> np.ndarray:
        return np.stack([clients[k].step(f"{k}", x[k, t]) for t in range(1, STEPS)])

    found = together(*(lambda k=k: rest(k) for k in range(PLACES)))
    for k in range(PLACES):
        np.testing.assert_array_equal(found[k], predicted(model, x[k])[1:])
    batches = server.batcher.stream.rows[first:]
    assert [sorted(rows) for rows in batches] == (STEPS - 1) * [list(range(PLACES))]


def test_no_batch_is_larger_than_the_most(
    server: Any, connect: Callable[[], Client], model: Sequential
) -> None:
    x = sequences(PLACES)
    clients = [connect() for _ in x]
    # While one steps, all the others ask.
    server.batcher.most, server.batcher.stream.seconds = 1, 0.01
    found = together(
        *(lambda k=k: [clients[k].step(f"{k}", values) for values in x[k]] for k in range(PLACES))
    )
    for k in range(PLACES):
        np.testing.assert_array_equal(found[k], predicted(model, x[k]))
    assert {len(rows) for rows in server.batcher.stream.rows} == {1}


def test_who_comes_into_a_row_that_was_left_begins_anew(
    connect: Callable[[], Client], model: Sequential
) -> None:
    client = connect()
    x = sequences(PLACES + 1)
    for k in range(PLACES):
        client.step(f"client {k}", x[k, 0])
    status, found = client.ask("POST", "/step", {"client": "late", "values": [0, 0, 0]})
    assert (status, found) == (503, {"error": "There is no free place."})
    assert client.ask("DELETE", "/client/client%201") == (200, {})
    found = np.stack([client.step("late", values) for values in x[-1]])
    np.testing.assert_array_equal(found, predicted(model, x[-1]))
    np.testing.assert_array_equal(client.step("client 3", x[3, 1]), predicted(model, x[3, :2])[1])


def test_who_has_not_stepped_for_longest_makes_place_for_new_ones(
    server: Any, connect: Callable[[], Client], model: Sequential
) -> None:
    client = connect()
    x = sequences(PLACES + 1)
    for k in (2, 0, 3, 1, 2):
        client.step(f"{k}", x[k, 0])
    server.batcher.idle = 0
    found = np.stack([client.step("late", values) for values in x[-1]])
    np.testing.assert_array_equal(found, predicted(model, x[-1]))
    for k in (1, 3):
        np.testing.assert_array_equal(client.step(f"{k}", x[k, 1]), predicted(model, x[k, :2])[1])
    assert list(server.batcher.rows) == ["2", "late", "1", "3"]


def test_nobody_waits_for_clients_that_have_hung_up(
    server: Any, connect: Callable[[], Client]
) -> None:
    clients = [connect() for _ in range(PLACES)]
    for k, client in enumerate(clients):
        client.step(f"{k}", np.ones(FEATURES))
    server.batcher.wait = 30
    for client in clients[1:]:
        client.connection.close()
    start = time.monotonic()
    clients[0].step("0", np.ones(FEATURES))
    assert time.monotonic() - start < 15


def test_steps_of_one_client_on_two_connections_come_one_by_one(
    server: Any, connect: Callable[[], Client], model: Sequential
) -> None:
    clients = [connect(), connect()]
    x = np.tile(sequences(1)[0, :1], (6, 1))
    # With another one there the batcher waits until it has the requests of both connections.
    clients[0].step("another", x[0])
    server.batcher.wait = 0.3
    found = together(
        *(lambda c=c: [c.step("both", x[0]) for _ in range(3)] for c in clients),
    )
    expected = predicted(model, x)
    assert sorted(map(tuple, itertools.chain(*found))) == sorted(map(tuple, expected))
    assert server.batcher.stream.rows[1:] == 6 * [[PLACES - 2]]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/step", b"{", 400, "not JSON"),
        ("POST", "/step", b"\xff", 400, "not JSON"),
        ("POST", "/step", 100_000 * b"[", 400, "not JSON"),
        ("POST", "/step", [], 400, '"client"'),
        ("POST", "/step", {"client": 3, "values": [1, 2, 3]}, 400, '"client"'),
        ("POST", "/step", {"client": "", "values": [1, 2, 3]}, 400, '"client"'),
        ("POST", "/step", {"client": "a"}, 400, "list of 3 numbers"),
        ("POST", "/step", {"client": "a", "values": [1, 2]}, 400, "list of 3 numbers"),
        ("POST", "/step", {"client": "a", "values": [[1], 2, 3]}, 400, "list of 3 numbers"),
        ("POST", "/step", {"client": "a", "values": ["1", 2, 3]}, 400, "list of 3 numbers"),
        ("POST", "/step", {"client": "a", "values": [1, 2, 1e300]}, 400, "list of 3 numbers"),
        ("POST", "/step", {"client": "a", "values": [1, 2, 10**400]}, 400, "list of 3 numbers"),
        ("POST", "/step", {"client": "a", "values": [1, 2, float("nan")]}, 400, "3 numbers"),
        ("POST", "/elsewhere", {}, 404, "POST /step"),
        ("GET", "/step", None, 404, "GET /model"),
        ("DELETE", "/client/", None, 404, "DELETE /client/NAME"),
        ("DELETE", "/client/nobody", None, 404, "'nobody'"),
        ("PUT", "/step", {}, 501, "PUT"),
    ],
)
def test_bad_requests_are_refused_and_change_nothing(
    server: Any,
    connect: Callable[[], Client],
    method: str,
    path: str,
    body: Any,
    status: int,
    said: str,
) -> None:
    client = connect()
    before = client.step("a", np.ones(FEATURES))
    states = server.batcher.stream.states
    found, content = client.ask(method, path, body)
    assert found == status
    assert said in content["error"]
    after = server.batcher.stream.states
    assert all(np.array_equal(after[name], states[name]) for name in states)
    assert not np.array_equal(client.step("a", np.ones(FEATURES)), before)


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize(
    ("heads", "status"),
    [
        (["Transfer-Encoding: chunked"], 411),
        (["Content-Length: -1"], 411),
        (["Content-Length: two"], 411),
        (["Content-Length: \u00b2"], 411),
        (["Content-Length: "], 411),
        (["Content-Length: 2", "Content-Length: 3"], 411),
        (["Content-Length: 2", "Content-Length: 2"], 411),
        ([f"Content-Length: {1 << 30}"], 413),
        ([f"Content-Length: {(1 << 20) + 1}"], 413),
        ([f"Content-Length: {5000 * '9'}"], 413),
    ],
)
def test_a_body_of_no_or_too_great_length_is_not_read(
    connect: Callable[[], Client], method: str, heads: list[str], status: int
) -> None:
    assert refused_unread(connect().connection, method, heads) == status


def test_a_step_without_a_length_is_refused(connect: Callable[[], Client]) -> None:
    assert refused_unread(connect().connection, "POST", []) == 411


def refused_unread(connection: http.client.HTTPConnection, method: str, heads: list[str]) -> int:
    """The status of the answer, after which the connection is closed."""
    connection.putrequest(method, "/model" if method == "GET" else "/step")
    for head in heads:
        connection.putheader(*head.split(": "))
    connection.endheaders()
    with connection.sock.dup() as sock:  # the connection closes its own
        answer = connection.getresponse()
        assert "error" in json.loads(answer.read())
        assert answer.headers["Connection"] == "close"
        assert sock.recv(1) == b""
    return answer.status


STEP = json.dumps({"client": "a", "values": FEATURES * [1]}).encode()


@pytest.fixture
def line(server: Any) -> Iterator[socket.socket]:
    """A bare connection."""
    with socket.create_connection(server.server_address, timeout=20) as sock:
        yield sock


def head(*more: str) -> bytes:
    lines = ("POST /step HTTP/1.1", "Host: here", f"Content-Length: {len(STEP)}", *more, "", "")
    return "\r\n".join(lines).encode()


def test_who_asks_whether_to_send_the_body_is_told_to(line: socket.socket) -> None:
    line.sendall(head("Expect: 100-continue"))
    assert line.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    line.sendall(STEP)
    assert line.recv(1000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", [b"", b"POST /st", head(), head() + STEP[:-1]])
def test_connections_that_say_nothing_for_long_are_closed(
    server: Any, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    assert serve.Handler.timeout == serve.LONGEST_SILENCE
    monkeypatch.setattr(serve.Handler, "timeout", 0.05)
    with socket.create_connection(server.server_address, timeout=20) as line:
        line.sendall(sent)
        assert line.recv(1000) == b""


def test_clients_that_vanish_are_nothing_to_tell_of(
    server: Any, line: socket.socket, capfd: pytest.CaptureFixture[str]
) -> None:
    server.batcher.stream.seconds = 0.1
    line.sendall(head() + STEP + head())
    while not server.batcher.stream.rows:
        time.sleep(0.001)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.close()  # with a reset
    while server.batcher.connections:
        time.sleep(0.001)
    time.sleep(0.05)  # what would be said comes after that
    assert capfd.readouterr().err == ""


def test_the_server_ends_when_all_answers_have_gone_out(
    server: Any, line: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = serve.Handler._send

    def slowly(*arguments: Any) -> None:
        time.sleep(0.2)
        send(*arguments)

    monkeypatch.setattr(serve.Handler, "_send", slowly)
    line.sendall(head() + STEP)
    while not server.batcher.stream.rows:
        time.sleep(0.001)
    server.shutdown()
    server.server_close()
    line.setblocking(False)
    assert line.recv(1000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("serve_streams", "--most 0"),
        ("serve_streams", "--places 0"),
        ("serve_streams", "--places many"),
        ("serve_streams", "--wait-ms -0.1"),
        ("serve_streams", "--wait-ms nan"),
        ("serve_streams", "--wait-ms 1e300"),
        ("serve_streams", "--idle-s -1"),
        ("serve_streams", "--port 65536"),
        ("load_streams", "--clients 0"),
        ("load_streams", "--steps 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    script: str,
    arguments: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    option, value = arguments.split()
    said = refused(script, [f"{option}={value}"], monkeypatch, capsys)
    assert f"argument {option}: " in said


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([Bidirectional(LSTM(3), name="both")], "both"),
        ([Activation("tanh")], "no weights"),
        ([Dense(2)], "one sequence"),
        (None, "No such file"),
    ],
)
def test_models_that_cannot_be_served_are_refused(
    layers: list[Any] | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "model.safetensors"
    if layers:
        shape = (2,) if "one sequence" in said else (None, 2)
        Sequential([Input(shape), *layers]).save(path)
    assert said in refused("serve_streams", [str(path)], monkeypatch, capsys)


def test_a_port_that_is_taken_is_said_and_ends_the_batcher(
    server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = threading.active_count()
    arguments = ["--port", str(server.server_port), "--places", "1"]
    assert "in use" in refused("serve_streams", arguments, monkeypatch, capsys)
    assert threading.active_count() == before


def test_load_with_a_client_that_fails_ends_at_once(
    server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    address = "{}:{}".format(*server.server_address)
    with pytest.raises(SystemExit, match=r"Some clients have failed\."):
        load("load_streams").measure(address, PLACES + 1, 3)
    assert "There is no free place." in capsys.readouterr().err


def test_an_error_in_a_step_reaches_all_who_wait_and_the_server_goes_on(
    server: Any, connect: Callable[[], Client], model: Sequential
) -> None:
    client, x = connect(), sequences(1)[0]
    client.step("a", x[0])
    server.batcher.stream.fails = True
    status, found = client.ask("POST", "/step", {"client": "a", "values": [1, 2, 3]})
    assert status == 500
    assert "made to fail" in found["error"]
    server.batcher.stream.fails = False
    np.testing.assert_array_equal(client.step("a", x[1]), predicted(model, x[:2])[1])


def test_closing_answers_what_was_asked_and_nothing_after(model: Sequential) -> None:
    batcher = serve.Batcher(model, places=2, wait=0)
    with ThreadPoolExecutor(1) as pool, batcher.connected(), batcher.connected():
        batcher.wait = 30  # for the other connection, which does not ask
        waiting = pool.submit(batcher.ask, "a", np.ones(FEATURES, "float32"))
        while not batcher.requests:
            time.sleep(0.001)
        batcher.close()
        assert waiting.result().shape == (2,)
    with pytest.raises(serve.RefusedError, match="shutting down"):
        batcher.ask("a", np.ones(FEATURES, "float32"))


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_with_its_clients_still_connected(
    model: Sequential, tmp_path: Path, number: signal.Signals
) -> None:
    model.save(tmp_path / "model.safetensors")
    command = [sys.executable, str(EXAMPLES / "serve_streams.py"), "--port", "0"]
    with subprocess.Popen(
        [*command, str(tmp_path / "model.safetensors")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip().removeprefix("http://")
            connection = http.client.HTTPConnection(address, timeout=60)
            connection.request("GET", "/model")
            answer = connection.getresponse()
            assert json.loads(answer.read()) == {"features": FEATURES, "places": 256}
            process.send_signal(number)
            _, errors = process.communicate(timeout=30)
            connection.close()
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")


def test_load_prints_both_ways_side_by_side(model: Sequential, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model.save(path)
    lines = run("load_streams.py", str(path), "--clients", "3", "--steps", "10").splitlines()
    assert lines[0] == "3 clients, 10 steps each"
    for line, name in zip(lines[2:], ("one client at a time", "batches"), strict=True):
        assert line.startswith(name)
        middle, late, rate = (
            float(word.replace(",", "")) for word in line.split() if word[0].isdigit()
        )
        assert 0 < middle <= late
        assert rate > 0


def test_the_server_says_how_it_is_used() -> None:
    assert "--wait-ms" in run("serve_streams.py", "--help")
