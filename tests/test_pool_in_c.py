"""The pool in the hands of C: tests/csrc/check_threads.c, which Python could not drive as hard."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMPILER = os.environ.get("CC", "cc").split()

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which(COMPILER[0]) is None, reason="there is no C compiler"
)


def run(folder, program, *sources):
    output = folder / program
    sources = [ROOT / f"tests/csrc/{program}.c", *(ROOT / f"csrc/base/{each}" for each in sources)]
    flags = ["-std=gnu11", "-O2", "-pthread", f"-I{ROOT / 'csrc'}"]
    subprocess.run([*COMPILER, *flags, *sources, "-o", output], check=True, timeout=60)
    done = subprocess.run([output], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_part_is_done_once_by_whoever_comes(tmp_path):
    run(tmp_path, "check_threads", "pool.c", "affinity.c", "blocks.c", "wavefront.c")


def test_when_a_caller_goes_on_alone(tmp_path):
    run(tmp_path, "check_decisions", "affinity.c")
