"""What every figure of pytest-benchmark is kept with."""

import pytest
import timing

import fastlstm


@pytest.fixture(autouse=True)
def _about(request):
    fastlstm.set_num_threads(1)
    if "benchmark" in request.fixturenames:
        request.getfixturevalue("benchmark").extra_info.update(timing.machine())
