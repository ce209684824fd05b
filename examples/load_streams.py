"""Load for `serve_streams.py`: how long clients wait for a step, in batches and one at a time.

usage: load_streams.py [MODEL.safetensors] [--clients N] [--steps N]

Starts the server twice, once with batches of one client, and has so many clients, each with a
connection of its own that stays open, ask for one step after the other.
"""

import argparse
import contextlib
import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

SERVER = Path(__file__).with_name("serve_streams.py")
WARM_UP = 5


@contextlib.contextmanager
def serving(*arguments):
    """The address of a server that runs meanwhile."""
    command = [sys.executable, str(SERVER), "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = server.stdout.readline().strip()
            if not address:
                raise SystemExit("The server has not started.")
            yield urlsplit(address).netloc
        finally:
            server.send_signal(signal.SIGTERM)


def ask(connection, method, path, content=None):
    connection.request(method, path, None if content is None else json.dumps(content))
    answer = connection.getresponse()
    found = json.loads(answer.read())
    if answer.status != 200:
        raise RuntimeError(f"{method} {path}: {answer.status} {found['error']}")
    return found


def client(address, name, values, start, seconds):
    """Ask for a step with each row of values, and put the seconds that each takes into an array."""
    requests = [{"client": name, "values": row} for row in values.tolist()]
    try:
        with contextlib.closing(http.client.HTTPConnection(address)) as connection:
            for request in requests[:WARM_UP]:
                ask(connection, "POST", "/step", request)
            start.wait()
            for place, request in enumerate(requests[WARM_UP:]):
                begin = time.perf_counter()
                ask(connection, "POST", "/step", request)
                seconds[place] = time.perf_counter() - begin
            ask(connection, "DELETE", f"/client/{name}")
    except threading.BrokenBarrierError:
        pass  # another one has failed
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        print(f"{name}: {error}", file=sys.stderr)
        start.abort()  # nobody must wait for this one


def measure(address, clients, steps):
    """The seconds of every step, (clients, steps), and of all of them together."""
    connection = http.client.HTTPConnection(address)
    features = ask(connection, "GET", "/model")["features"]
    connection.close()
    values = np.random.default_rng(0).normal(size=(clients, WARM_UP + steps, features))
    seconds = np.full((clients, steps), np.nan)
    start = threading.Barrier(clients + 1)
    threads = [
        threading.Thread(
            target=client, args=(address, f"client-{k}", values[k], start, seconds[k]), daemon=True
        )
        for k in range(clients)
    ]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        start.wait(timeout=60)
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    total = time.perf_counter() - begin
    if np.isnan(seconds).any():
        raise SystemExit("Some clients have failed.")
    return seconds, total


def positive(text):
    """The type of arguments that are counts."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", metavar="MODEL.safetensors")
    parser.add_argument("--clients", type=positive, default=32)
    parser.add_argument("--steps", type=positive, default=100, help="of each client")
    options = parser.parse_args()

    model = [options.model] if options.model else []
    model += ["--places", str(options.clients)]
    print(f"{options.clients} clients, {options.steps} steps each")
    print(f"{'':22}{'p50':>10}{'p99':>13}{'steps/s':>10}")
    for name, arguments in (("one client at a time", ["--most", "1"]), ("batches", [])):
        with serving(*model, *arguments) as address:
            seconds, total = measure(address, options.clients, options.steps)
        middle, late = 1000 * np.percentile(seconds, [50, 99])
        print(f"{name:22}{middle:7.2f} ms{late:10.2f} ms{seconds.size / total:10,.0f}")


if __name__ == "__main__":
    main()
