"""The pool of threads: forks, many callers, sleep."""

import ctypes
import ctypes.util
import multiprocessing
import os
import sys

import numpy as np
import pytest
from lstm_cases import random_case
from test_config import printed, run

import fastlstm
from fastlstm import functional
from fastlstm._core import kernels, pool

pytestmark = pytest.mark.usefixtures("two_threads")

needs_own_kernels = pytest.mark.skipif(
    kernels.available_isas() == ("baseline",), reason="BLAS has its own threads"
)

# Enough work that threads are woken for it.
SHAPE = (4, 60, 64, 130)


def answer():
    fastlstm.set_num_threads(2)
    y, _, _, cache = random_case(SHAPE, np.float32).forward(functional)
    return y, functional.lstm_backward(cache, np.ones_like(y))[1]


def send_answer(connection):
    connection.send(answer())
    connection.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_child_process_computes_the_same(method):
    want = answer()
    context = multiprocessing.get_context(method)
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=send_answer, args=(there,))
    child.start()
    try:
        assert here.poll(60), "the child hangs"
        for found, expected in zip(here.recv(), want, strict=True):
            np.testing.assert_array_equal(found, expected)
    finally:
        child.join(10)
        child.kill()
    # The parent's pool still works.
    np.testing.assert_array_equal(answer()[0], want[0])


COUNT_THREADS = """
import os
import numpy as np
import fastlstm
from fastlstm import functional

x = np.ones((4, 60, 64), np.float32)
kernel, recurrent_kernel = np.ones((64, 520), np.float32), np.ones((130, 520), np.float32)
before = len(os.listdir("/proc/self/task"))
functional.lstm_forward(x, kernel, recurrent_kernel)
print(len(os.listdir("/proc/self/task")) - before)
"""


@needs_own_kernels
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads cannot be counted")
@pytest.mark.parametrize(
    ("environment", "count"),
    [({"FASTLSTM_NUM_THREADS": "3"}, 3), ({"OMP_NUM_THREADS": "1"}, 1)],
)
def test_threads_are_made_as_asked_for_but_no_more_than_cpus(environment, count):
    cpus = len(os.sched_getaffinity(0))
    assert printed(COUNT_THREADS, **environment) == str(min(count, cpus) - 1)


IDLE = """
import time
import numpy as np
import fastlstm
from fastlstm import functional

fastlstm.set_num_threads(2)
x = np.ones((4, 60, 64), np.float32)
kernel, recurrent_kernel = np.ones((64, 520), np.float32), np.ones((130, 520), np.float32)
functional.lstm_forward(x, kernel, recurrent_kernel)
time.sleep(0.3)
before = time.process_time()
time.sleep(0.7)
print(time.process_time() - before)
"""


def test_an_idle_program_uses_no_cpu():
    assert float(printed(IDLE)) < 0.1


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals")
def test_an_interrupt_reaches_the_main_thread():
    # A signal sent while members work must be handled by Python, not lost in a thread of ours.
    result = run(
        IDLE.split("time.sleep")[0]
        + "import os, signal\n"
        # Ignored where the tests run in the background.
        + "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        + "try:\n    os.kill(os.getpid(), signal.SIGINT); time.sleep(5)\n"
        + "except KeyboardInterrupt:\n    print('interrupted')\n"
    )
    assert result.stdout.strip() == "interrupted", result.stderr


AFFINITY = """
import os, time
import numpy as np
import fastlstm
from fastlstm import functional

cpus = os.sched_getaffinity(0)
fastlstm.set_num_threads(2)
x = np.ones((4, 60, 64), np.float32)
kernel, recurrent_kernel = np.ones((64, 520), np.float32), np.ones((130, 520), np.float32)
for _ in range(5):
    functional.lstm_forward(x, kernel, recurrent_kernel)
    time.sleep(0.02)
found = [os.sched_getaffinity(int(thread)) for thread in os.listdir("/proc/self/task")]
assert all(each == cpus for each in found), (cpus, found)
os.sched_setaffinity(0, {min(cpus)})
functional.lstm_forward(x, kernel, recurrent_kernel)
print(os.sched_getaffinity(0) == {min(cpus)})
"""


@needs_own_kernels
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads stay where they are")
def test_woken_threads_may_use_all_cpus_again():
    assert printed(AFFINITY) == "True"


FEW_AT_A_TIME = """
import resource, time
import numpy as np
import fastlstm
from fastlstm import functional

fastlstm.set_num_threads(2)
kernel, recurrent_kernel = np.ones((64, 520), np.float32), np.ones((130, 520), np.float32)

def run(steps):
    functional.lstm_forward(np.ones((4, steps, 64), np.float32), kernel, recurrent_kernel)

run(60)
time.sleep(0.1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
for _ in range(200):
    run(3)
    run(3)
    start = time.perf_counter()
    while time.perf_counter() - start < 3e-4:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before)
"""


@needs_own_kernels
def test_few_small_tasks_wake_nobody():
    # Waking takes longer than they do: a training step of a small model would take twice as long.
    pytest.importorskip("resource")
    assert int(printed(FEW_AT_A_TIME)) < 50


OPENMP = """
import ctypes, ctypes.util, os, threading
import numpy as np
import fastlstm
from fastlstm import functional
from fastlstm._core import kernels, pool

fastlstm.set_num_threads(3)
rng = np.random.default_rng(0)
shapes = [(4, 60, 64, 130), (48, 9, 20, 33), (4, 3, 64, 130)]
cases = [
    (rng.normal(size=(b, t, f)), rng.normal(size=(f, 4 * h)), rng.normal(size=(h, 4 * h)))
    for b, t, f, h in shapes
]

def passes():
    found = []
    for x, kernel, recurrent_kernel in cases:
        y, h, c, cache = functional.lstm_forward(x, kernel, recurrent_kernel, training=True)
        found += [y, h, c, *functional.lstm_backward(cache, y)]
    return [each for each in found if each is not None]

def check():
    for ours, theirs in zip(passes(), want, strict=True):
        np.testing.assert_array_equal(ours, theirs)

def threads():
    return len(os.listdir("/proc/self/task"))

openmp = ctypes.CDLL(ctypes.util.find_library("gomp"))
with_one = threads()
pool.use_openmp(openmp)
fastlstm.set_num_threads(1)
want = passes()
fastlstm.set_num_threads(3)
pool.oversubscribe(True)
assert threads() == with_one
for _ in range(20):
    check()
assert threads() == with_one + max(3, openmp.omp_get_max_threads()) - 1, threads()

# Inside of a parallel region there is one thread for each pass.
errors = []
@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def region(_):
    try:
        check()
    except BaseException as error:
        errors.append(error)
openmp.GOMP_parallel(region, None, 2, 0)
assert not errors, errors

others = [threading.Thread(target=region, args=(None,)) for _ in range(4)]
[each.start() for each in others]
[each.join() for each in others]
assert not errors, errors

child = os.fork()
if child == 0:
    try:
        check()
        os._exit(0)
    finally:
        os._exit(1)
assert os.waitpid(child, 0)[1] == 0
print("done")
"""


@needs_own_kernels
@pytest.mark.skipif(
    ctypes.util.find_library("gomp") is None or not os.path.isdir("/proc/self/task"),
    reason="there is no OpenMP runtime of GNU",
)
def test_threads_of_openmp():
    assert printed(OPENMP) == "done"


def test_a_library_without_openmp():
    with pytest.raises(AttributeError):
        pool.use_openmp(ctypes.CDLL(kernels.__file__))
