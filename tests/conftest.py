from __future__ import annotations

from collections.abc import Iterator

import pytest

from fastlstm._core import kernels
from fastlstm.utils import set_random_seed


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    """The same random weights in every run, whatever ran before."""
    set_random_seed(1234)


@pytest.fixture(params=kernels.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this machine can run, in turn."""
    before = kernels.isa_name()
    kernels.use_isa(request.param)
    yield request.param
    kernels.use_isa(before)
