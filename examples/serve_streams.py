"""A server of streams: the steps of many clients, who come and go, are computed in batches.

usage: serve_streams.py [MODEL.safetensors] [--port N] [--places N] [--most N] [--wait-ms N] ...

    POST /step {"client": "ann", "values": [0.1, ...]}   ->  {"output": [...]}
    DELETE /client/ann                                    ->  {}
    GET /model                                            ->  {"features": ..., "places": ...}

Each client has a row of one stream, which keeps its states from step to step until it is deleted.
When all places are taken, a new client gets the row of the one that has not stepped for longest, if
that is --idle-s seconds; if it comes back, it begins anew.
A connection that is silent for a minute is closed, which takes no place from its client.
What comes while a step runs, or shortly after the first, goes into the next: the weights are read
once for all of it. Errors are {"error": "..."} with a status of 4xx, or 503 without a free place.
Without a model file the model has random weights. `load_streams.py` measures it.
"""

import argparse
import contextlib
import json
import math
import signal
import sys
import threading
import time
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np

import fastlstm
from fastlstm.layers import LSTM, Dense
from fastlstm.models import Sequential
from fastlstm.utils import set_random_seed

LONGEST_BODY = 1 << 20
LONGEST_SILENCE = 60  # seconds until a connection is closed
LONGEST_GOODBYE = 5  # seconds that answers may take when the server ends


class RefusedError(Exception):
    """A request that gets no step: the status, and why."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Request(NamedTuple):
    """What a thread of the server waits for."""

    client: str
    values: np.ndarray | None  # None: the client leaves
    answer: Future


class Batcher:
    """One thread that owns the stream; all others hand it requests and wait for the answers."""

    def __init__(self, model, places=256, most=64, wait=0.001, idle=300):
        self.stream = model.stream(batch_size=places)
        self.features, self.dtype = model.input_shape[-1], model.weights[0].value.dtype
        self.most, self.wait, self.idle = most, wait, idle
        # Each client's row and the time of its last step; who stepped last comes last.
        self.rows, self.free = {}, list(range(places))
        self.requests, self.connections, self.closed = [], 0, False
        self.arrived = threading.Condition()
        self.thread = threading.Thread(target=self._run, name="batcher")
        self.thread.start()

    def ask(self, client, values=None):
        """The output of a client's next step; without values its row is given back."""
        request = Request(client, values, Future())
        with self.arrived:
            if self.closed:
                raise RefusedError(503, "The server is shutting down.")
            self.requests.append(request)
            self.arrived.notify()
        return request.answer.result()

    @contextlib.contextmanager
    def connected(self):
        """Meanwhile there is one connection more from which a request may come."""
        with self.arrived:
            self.connections += 1
        try:
            yield
        finally:
            with self.arrived:
                self.connections -= 1
                self.arrived.notify()

    def close(self):
        """Answer what has been asked, then end the thread."""
        with self.arrived:
            self.closed = True
            self.arrived.notify()
        self.thread.join()

    # ---- in the thread -----------------------------------------------------------------------

    def _run(self):
        while True:
            with self.arrived:
                self.arrived.wait_for(lambda: self.requests or self.closed)
                if not self.requests:
                    return
                self.arrived.wait_for(self._is_full, timeout=self.wait)
                batch = self._take()
            try:
                self._compute(batch)
            except Exception as error:  # whatever it is, nobody must wait for ever
                for request in batch:
                    if not request.answer.done():
                        request.answer.set_exception(error)

    def _is_full(self):
        """Whether it is no use to wait: a connection asks again only when it has been answered."""
        return self.closed or len(self.requests) >= min(self.most, self.connections)

    def _take(self):
        """The next requests, one of each client: the stream takes no row twice."""
        batch, later = {}, []
        for request in self.requests:
            if request.client in batch or len(batch) == self.most:
                later.append(request)
            else:
                batch[request.client] = request
        self.requests = later
        return list(batch.values())

    def _compute(self, batch):
        steps, now = [], time.monotonic()
        for request in batch:
            if request.values is None:
                self._leave(request)
            elif self._has_row(request.client, now):
                steps.append(request)
            else:
                request.answer.set_exception(RefusedError(503, "There is no free place."))
        if steps:
            x = np.stack([request.values for request in steps])
            y = self.stream.step(x, rows=[self.rows[request.client][0] for request in steps])
            for request, output in zip(steps, y, strict=True):
                request.answer.set_result(output)

    def _has_row(self, client, now):
        """Whether the client has a row, if need be one that begins anew."""
        if client in self.rows:
            row, _ = self.rows.pop(client)
        else:
            self._free_the_oldest(now)
            if not self.free:
                return False
            row = self.free.pop()
            self.stream.reset([row])
        self.rows[client] = row, now
        return True

    def _free_the_oldest(self, now):
        """Clients that are gone without a word must not keep all places for ever."""
        if not self.free:
            client, (row, stepped) = next(iter(self.rows.items()))
            if now - stepped > self.idle:
                del self.rows[client]
                self.free.append(row)

    def _leave(self, request):
        if request.client in self.rows:
            self.free.append(self.rows.pop(request.client)[0])
            request.answer.set_result(None)
        else:
            error = RefusedError(404, f"There is no client {request.client!r}.")
            request.answer.set_exception(error)


class Handler(BaseHTTPRequestHandler):
    """One connection, which stays open for as many requests as its client likes."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body of an answer in one packet
    timeout = LONGEST_SILENCE

    def handle(self):
        with self.server.batcher.connected():
            super().handle()

    def handle_expect_100(self):
        """The client sends its body only when this answer has gone out."""
        goes_on = super().handle_expect_100()
        self.wfile.flush()
        return goes_on

    def do_GET(self):
        self._answer(self._model)

    def do_POST(self):
        self._answer(self._step)

    def do_DELETE(self):
        self._answer(self._delete)

    def _answer(self, find):
        with self.server.answering():
            self._send(*self._found(find))
            self.wfile.flush()

    def _found(self, find):
        """Status and content of the answer."""
        try:
            length = self._length()
        except RefusedError as error:
            self.close_connection = True  # where the next request begins is not known
            return error.status, {"error": str(error)}
        # Read whatever becomes of it: the next request follows it.
        body = self.rfile.read(length)
        try:
            return 200, find(body)
        except RefusedError as error:
            return error.status, {"error": str(error)}
        except Exception as error:  # of the step
            return 500, {"error": f"{type(error).__name__}: {error}"}

    def _model(self, _):
        if self.path != "/model":
            raise RefusedError(404, f"There is no {self.path}: GET /model.")
        batcher = self.server.batcher
        return {"features": batcher.features, "places": batcher.stream.batch_size}

    def _step(self, body):
        if self.path != "/step":
            raise RefusedError(404, f"There is no {self.path}: POST /step.")
        batcher = self.server.batcher
        client, values = checked(body, batcher.features, batcher.dtype)
        return {"output": batcher.ask(client, values).tolist()}

    def _delete(self, _):
        start, client = self.path[:8], unquote(self.path[8:])
        if start != "/client/" or not client:
            raise RefusedError(404, f"There is no {self.path}: DELETE /client/NAME.")
        self.server.batcher.ask(client)
        return {}

    def _length(self):
        """The bytes of the body. Only a POST must have one."""
        lengths = self.headers.get_all("Content-Length", [] if self.command == "POST" else ["0"])
        length = lengths[0] if len(lengths) == 1 else ""
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            raise RefusedError(411, "The request must have one Content-Length, a number.")
        # Very long numbers are not even read.
        if len(length) > len(str(LONGEST_BODY)) or int(length) > LONGEST_BODY:
            raise RefusedError(413, f"A body may have {LONGEST_BODY} bytes.")
        return int(length)

    def _send(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code, message=None, explain=None):
        """What the base class finds wrong, and then does not read to its end."""
        self.close_connection = True
        self._send(code, {"error": message or self.responses.get(code, ("", ""))[0]})

    def log_message(self, *_):
        """A line for each step would cost more than the step."""


def checked(body, features, dtype):
    """Client and values of a request, refused here, where it is alone, and not in a batch."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"The body is not JSON: {error}") from None
    given = given if isinstance(given, dict) else {}
    client, values = given.get("client"), given.get("values")
    if not isinstance(client, str) or not client:
        raise RefusedError(400, 'The body must have a "client", a string.')
    if isinstance(values, list) and all(type(value) in (int, float) for value in values):
        with contextlib.suppress(OverflowError), np.errstate(over="ignore"):
            array = np.array(values, dtype)
            if array.shape == (features,) and np.isfinite(array).all():
                return client, array
    raise RefusedError(400, f'The body must have "values", a list of {features} numbers.')


class Server(ThreadingHTTPServer):
    """A thread for each connection, all of them with one batcher, which ends with the server."""

    request_queue_size = 256  # clients that connect all at once

    def __init__(self, address, batcher):
        self.batcher = batcher
        self.answers, self.answered = 0, threading.Condition()
        super().__init__(address, Handler)  # closes itself if the address is taken

    @contextlib.contextmanager
    def answering(self):
        """Meanwhile there is one answer more to wait for at the end."""
        with self.answered:
            self.answers += 1
        try:
            yield
        finally:
            with self.answered:
                self.answers -= 1
                self.answered.notify()

    def server_close(self):
        """Take no connection any more, and give those that have asked their answers."""
        super().server_close()
        self.batcher.close()
        with self.answered:
            self.answered.wait_for(lambda: not self.answers, timeout=LONGEST_GOODBYE)

    def handle_error(self, request, client_address):
        """A client that is gone before its answer is no error of the server."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def random_model(features=8, units=512):
    set_random_seed(0)
    model = Sequential()
    model.add(LSTM(units, return_sequences=True, input_shape=(None, features)))
    model.add(LSTM(units, return_sequences=True))
    model.add(Dense(1))
    return model


def number(kind, least, most=math.inf):
    """The type of an argument from `least` to `most`."""

    def parsed(text):
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be {least} to {most}, got {text}")
        return value

    parsed.__name__ = kind.__name__  # argparse says it of what is no number
    return parsed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", metavar="MODEL.safetensors")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--port", type=number(int, 0, 65535), default=8000, help="0: any that is free"
    )
    parser.add_argument(
        "--places", type=number(int, 1), default=256, help="clients at the same time"
    )
    parser.add_argument("--most", type=number(int, 1), default=64, help="clients in one step")
    parser.add_argument(
        "--wait-ms", type=number(float, 0, 60_000), default=1.0, help="that a step waits for more"
    )
    parser.add_argument(
        "--idle-s", type=number(float, 0), default=300, help="that a client may keep its place"
    )
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        model = fastlstm.load_model(options.model) if options.model else random_model()
        if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.input_shape) != 3:
            parser.error("the model must read one sequence (B, T, F) and have one output")
        if not model.weights:
            parser.error("the model has no weights")
        batcher = Batcher(
            model, options.places, options.most, options.wait_ms / 1000, options.idle_s
        )
        with Server((options.host, options.port), batcher) as server:
            print(f"http://{options.host}:{server.server_port}", flush=True)
            server.serve_forever()
    except (OSError, ValueError) as error:  # of the model's file, of its layers, of the address
        parser.error(str(error))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
