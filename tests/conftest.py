from __future__ import annotations

from collections.abc import Iterator

import pytest

from fastlstm._core import kernels


@pytest.fixture(params=kernels.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this machine can run, in turn."""
    before = kernels.isa_name()
    kernels.use_isa(request.param)
    yield request.param
    kernels.use_isa(before)
