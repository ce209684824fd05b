"""A package of someone else's, in Cython, that runs the LSTM on its own memory."""

import subprocess
import sys

import pytest

pytest.importorskip("Cython")
pytest.importorskip("setuptools")

MODULE = """# cython: language_level=3
from fastlstm cimport LSTMPlan
import numpy as np

def last_state(LSTMPlan plan, const float[:, :, ::1] x):
    cdef float[:, ::1] h = np.zeros((x.shape[0], plan.units), np.float32)
    cdef float[:, ::1] c = np.zeros((x.shape[0], plan.units), np.float32)
    plan.run(&x[0, 0, 0], &h[0, 0], &c[0, 0], NULL, x.shape[0], x.shape[1])
    return np.asarray(h)
"""

# Cython looks for .pxd files along sys.path, where an editable install is not.
SETUP = """
from pathlib import Path
import fastlstm
from Cython.Build import cythonize
from setuptools import setup

found = str(Path(fastlstm.__file__).parents[1])
setup(name="theirs", ext_modules=cythonize("theirs.pyx", include_path=[found]))
"""

PROGRAM = """
import numpy as np
import theirs
from fastlstm._core.lstm import LSTMPlan
from fastlstm.functional import lstm_forward

rng = np.random.default_rng(0)
x, kernel, recurrent_kernel = (
    rng.normal(size=shape).astype(np.float32) for shape in ((5, 7, 3), (3, 16), (4, 16))
)
plan = LSTMPlan(kernel, recurrent_kernel, None, "tanh", "sigmoid", False, False)
want = lstm_forward(x, kernel, recurrent_kernel)[1]
np.testing.assert_array_equal(theirs.last_state(plan, x), want)
"""


def test_another_package_cimports_fastlstm(tmp_path):
    (tmp_path / "theirs.pyx").write_text(MODULE)
    (tmp_path / "setup.py").write_text(SETUP)
    for arguments in (["setup.py", "--quiet", "build_ext", "--inplace"], ["-c", PROGRAM]):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
