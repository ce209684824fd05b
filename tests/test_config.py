"""Settings: the instruction set, the threads, the BLAS that was loaded, the default real type."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lstm_cases import random_case

import fastlstm
from fastlstm import config, functional, release_memory
from fastlstm._core import blas, kernels
from fastlstm._cpus import usable_cpus


def run(code, **environment):
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FASTLSTM_", "OPENBLAS_", "OMP_"))
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def printed(code, **environment):
    result = run(code, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


ISA = "from fastlstm._core import kernels; print(kernels.isa_name())"
ENGINES = """
import numpy as np
from fastlstm import functional
from fastlstm._core import kernels

def engine_of(rows):
    x, kernel = np.ones((rows, 3), np.float32), np.ones((3, 20), np.float32)
    recurrent_kernel = np.ones((5, 20), np.float32)
    lstm = functional.lstm_forward(x[None], kernel, recurrent_kernel, training=True)[3]
    dense = functional.dense_forward(x, kernel, training=True)[1]
    assert lstm.path.split()[1] == dense.path
    return dense.path

print(kernels.engine_name(), engine_of(7), engine_of(8))
"""
THREADS = "import fastlstm; print(fastlstm.get_num_threads())"
CORE = "from fastlstm._core import blas; print(blas.openblas_core())"


@pytest.mark.parametrize("name", kernels.available_isas())
def test_isa_can_be_forced(name):
    assert printed(ISA, FASTLSTM_ISA=name) == name


def test_the_widest_isa_is_the_default():
    assert printed(ISA) == kernels.available_isas()[-1]


@pytest.mark.parametrize(
    ("name", "why"),
    [("sse9", "it is unknown"), ("neon", "cannot run it"), ("avx2", "cannot run it")],
)
def test_unknown_and_unavailable_isas_are_refused(name, why):
    if name in kernels.available_isas():
        name, why = "AVX2 ", "it is unknown"
    result = run(ISA, FASTLSTM_ISA=name)
    assert result.returncode != 0
    assert "FASTLSTM_ISA must be one of baseline" in result.stderr
    assert why in result.stderr


def test_use_isa_refuses_and_keeps_the_old_one():
    before = kernels.isa_name()
    with pytest.raises(ValueError, match="FASTLSTM_ISA must be one of"):
        kernels.use_isa("sse9")
    assert kernels.isa_name() == before


@pytest.mark.parametrize("name", ["packed", "unpacked", "blas"])
def test_an_engine_can_be_forced(name):
    assert printed(ENGINES, FASTLSTM_ENGINE=name) == f"{name} {name} {name}"


@pytest.mark.parametrize("isa", kernels.available_isas())
def test_the_default_engine_suits_each_pass(isa):
    want = "blas blas" if isa == "baseline" else "unpacked packed"
    assert printed(ENGINES, FASTLSTM_ISA=isa, FASTLSTM_ENGINE="") == f"None {want}"


def test_unknown_engines_are_refused():
    result = run(ENGINES, FASTLSTM_ENGINE="BLAS")
    assert result.returncode != 0
    assert "FASTLSTM_ENGINE must be one of blas, packed, unpacked; got 'BLAS'" in result.stderr


def test_use_engine_refuses_and_keeps_the_old_one():
    kernels.use_engine("unpacked")
    try:
        with pytest.raises(ValueError, match="Did you mean 'packed'"):
            kernels.use_engine("pack")
        assert kernels.engine_name() == "unpacked"
    finally:
        kernels.use_engine(None)


def test_a_backward_pass_runs_on_what_its_forward_pass_ran_on():
    case = random_case((3, 5, 4, 33), np.float32, mask=0.7)
    isas = kernels.available_isas()
    before = kernels.isa_name()
    try:
        for isa in isas:
            for engine in (None, "packed", "unpacked", "blas"):
                kernels.use_isa(isa)
                kernels.use_engine(engine)
                cache = case.forward(functional)[3]
                wanted = functional.lstm_backward(cache, *case.gradients)
                for other in isas:
                    kernels.use_isa(other)
                    kernels.use_engine("blas" if engine != "blas" else "packed")
                    for got, want in zip(
                        functional.lstm_backward(cache, *case.gradients), wanted, strict=True
                    ):
                        np.testing.assert_array_equal(got, want)
    finally:
        kernels.use_engine(None)
        kernels.use_isa(before)


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({"FASTLSTM_NUM_THREADS": "3"}, "3"),
        ({"OMP_NUM_THREADS": "2,4"}, "2"),
        ({"FASTLSTM_NUM_THREADS": "1", "OMP_NUM_THREADS": "2"}, "1"),
        ({}, str(usable_cpus())),
    ],
)
def test_threads_from_the_environment(environment, count):
    assert printed(THREADS, **environment) == count


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_bad_thread_counts_in_the_environment(text):
    result = run(THREADS, FASTLSTM_NUM_THREADS=text)
    assert f"FASTLSTM_NUM_THREADS must be a positive integer, got {text!r}" in result.stderr


CPUS = usable_cpus(Path("/nowhere"))


@pytest.mark.parametrize(
    ("group", "limits", "found"),
    [
        ("0::/", {}, CPUS),
        ("0::/", {"cpu.max": "max 100000"}, CPUS),
        ("0::/", {"cpu.max": "100000 100000"}, 1),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "6400000 100000"}, CPUS),
        # The strictest of the groups that it is in.
        ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1),
        # The path that the host sees, in a container with its own group alone.
        ("0::/docker/0a1b", {"cpu.max": "100000 100000"}, 1),
        ("0::/", {"cpu.max": "what is this"}, CPUS),
        (
            "4:cpu,cpuacct:/a",
            {"cpu/a/cpu.cfs_quota_us": "120000", "cpu/a/cpu.cfs_period_us": "100000"},
            1,
        ),
        (
            "4:cpu,cpuacct:/a",
            {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"},
            CPUS,
        ),
        ("3:cpuset:/a", {"cpu/a/cpu.cfs_quota_us": "1", "cpu/a/cpu.cfs_period_us": "1"}, CPUS),
    ],
)
def test_threads_heed_the_quota_of_a_container(tmp_path, group, limits, found):
    texts = {f"sys/fs/cgroup/{name}": text for name, text in limits.items()}
    for name, text in {"proc/self/cgroup": group, **texts}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert usable_cpus(tmp_path) == found


def test_set_num_threads():
    before = fastlstm.get_num_threads()
    try:
        fastlstm.set_num_threads(2)
        assert fastlstm.get_num_threads() == 2
        with pytest.raises(ValueError, match="positive integer, got 0"):
            fastlstm.set_num_threads(0)
        with pytest.raises(TypeError, match=r"positive integer, got 1\.5"):
            fastlstm.set_num_threads(1.5)
        assert fastlstm.get_num_threads() == 2
        fastlstm.set_num_threads(2**40)
        assert fastlstm.get_num_threads() <= config.MOST_THREADS
    finally:
        fastlstm.set_num_threads(before)


def test_loading_leaves_the_environment_alone():
    code = "import os; a = dict(os.environ); import fastlstm; print(a == dict(os.environ))"
    assert printed(code) == "True"
    assert printed(code, OPENBLAS_NUM_THREADS="7", OPENBLAS_CORETYPE="Haswell") == "True"


@pytest.mark.skipif("avx2" not in kernels.available_isas(), reason="Haswell kernels need AVX2")
def test_the_users_coretype_wins():
    assert printed(CORE, OPENBLAS_CORETYPE="Haswell") == "Haswell"


@pytest.mark.skipif("avx512" not in kernels.available_isas(), reason="needs AVX-512")
def test_blas_uses_kernels_as_wide_as_the_units_of_the_cpu():
    wide = ("SkylakeX", "Cooperlake", "SapphireRapids")
    zen_4 = kernels.amd_family() == 0x19
    assert printed(CORE) in (("Haswell", "Zen") if zen_4 else wide)


def test_show_config_names_the_engine(core, capsys):
    fastlstm.show_config()
    default = "blas" if core.isa == "baseline" else "packed, or unpacked for a few rows"
    assert f"engine:          {core.engine or default}\n" in capsys.readouterr().out


def test_show_config(capsys):
    fastlstm.show_config()
    text = capsys.readouterr().out
    for expected in (
        fastlstm.__version__,
        kernels.isa_name(),
        "OpenBLAS",
        blas.openblas_core(),
        f"threads:         {fastlstm.get_num_threads()}",
        "libscipy_openblas",
    ):
        assert expected in text


def test_floatx():
    assert fastlstm.floatx() == "float32"
    try:
        fastlstm.set_floatx(np.float64)
        assert fastlstm.floatx() == "float64"
        for bad, error in [("float16", ValueError), ("no type", TypeError), (None, TypeError)]:
            with pytest.raises(error, match="must be float32 or float64"):
                fastlstm.set_floatx(bad)
        assert fastlstm.floatx() == "float64"
    finally:
        fastlstm.set_floatx("float32")


RESIDENT = """
import numpy as np
import fastlstm
from fastlstm import functional

def resident():
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmRSS")]
    return int(line.split()[1]) << 10

def train(steps):
    x, dy = np.ones((32, steps, 16), np.float32), np.ones((32, steps, 64), np.float32)
    kernel, recurrent_kernel = np.ones((16, 256), np.float32), np.ones((64, 256), np.float32)
    cache = functional.lstm_forward(x, kernel, recurrent_kernel, training=True)[3]
    functional.lstm_backward(cache, dy)

train(3)
fastlstm.release_memory()
before = resident()
train(1000)
kept = resident() - before
freed = fastlstm.release_memory()
print(kept >> 20, freed >> 20, (resident() - before) >> 20)
train(3000)
print(fastlstm.release_memory() >> 20)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory cannot be measured")
def test_kept_memory_is_given_back():
    kept, freed, left, most = map(int, printed(RESIDENT).split())
    # 32 * 1000 rows of 64 units: their gates and cell states alone are 39 MiB.
    assert kept >= 39
    assert freed >= 39
    assert left < kept / 4
    assert most <= 256


def test_memory_in_use_is_not_given_back():
    rng = np.random.default_rng(0)
    x, kernel, recurrent_kernel = (rng.normal(size=s) for s in ((3, 4, 2), (2, 20), (5, 20)))
    y, _, _, cache = functional.lstm_forward(x, kernel, recurrent_kernel, training=True)
    wanted = functional.lstm_backward(cache, y)
    release_memory()
    functional.lstm_forward(-x, kernel, recurrent_kernel, training=True)
    for got, want in zip(functional.lstm_backward(cache, y)[:3], wanted[:3], strict=True):
        np.testing.assert_array_equal(got, want)
    release_memory()
    assert release_memory() == 0
