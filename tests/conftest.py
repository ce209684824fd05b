from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

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


class Core(NamedTuple):
    """What computes: an instruction set, and an engine or None for that which suits a pass."""

    isa: str
    engine: str | None

    def __str__(self) -> str:
        return f"{self.isa}-{self.engine or 'default'}"

    def path(self, rows: int) -> str:
        """What a cache of so many rows names first: plans that are new pack from 8 rows on."""
        default = "packed" if rows >= 8 else "unpacked"
        return f"{self.isa} {self.engine or ('blas' if self.isa == 'baseline' else default)}"


# Each engine on every instruction set would say little more than this.
_PLAINEST, _WIDEST = kernels.available_isas()[0], kernels.available_isas()[-1]
CORES = [Core(isa, None) for isa in kernels.available_isas()] + sorted(
    {Core(_PLAINEST, "packed"), Core(_WIDEST, "blas"), Core(_WIDEST, "unpacked")}
)


@pytest.fixture(params=CORES, ids=str)
def core(request: pytest.FixtureRequest) -> Iterator[Core]:
    """Every instruction set that this machine can run, and every engine, in turn."""
    before = kernels.isa_name(), kernels.engine_name()
    kernels.use_isa(request.param.isa)
    kernels.use_engine(request.param.engine)
    yield request.param
    kernels.use_isa(before[0])
    kernels.use_engine(before[1])
