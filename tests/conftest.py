from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from cores import CORES, Core

import fastlstm
from fastlstm._core import kernels, pool
from fastlstm.utils import set_random_seed


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    """The same random weights in every run, whatever ran before."""
    set_random_seed(1234)


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads, of which passes then have as many, however few CPUs there are.

    It is afterwards what it was before.
    """
    before = fastlstm.get_num_threads()
    pool.oversubscribe(True)
    yield fastlstm.set_num_threads
    pool.oversubscribe(False)
    fastlstm.set_num_threads(before)


@pytest.fixture
def two_threads(set_threads: Callable[[int], None]) -> None:
    """As many threads as the machines have that this must run on."""
    set_threads(2)


@pytest.fixture(params=kernels.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this machine can run, in turn."""
    before = kernels.isa_name()
    kernels.use_isa(request.param)
    yield request.param
    kernels.use_isa(before)


@pytest.fixture(params=CORES, ids=str)
def core(request: pytest.FixtureRequest) -> Iterator[Core]:
    """Every instruction set that this machine can run, and every engine, in turn."""
    before = kernels.isa_name(), kernels.engine_name()
    kernels.use_isa(request.param.isa)
    kernels.use_engine(request.param.engine)
    yield request.param
    kernels.use_isa(before[0])
    kernels.use_engine(before[1])
