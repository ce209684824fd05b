"""Models for C programs: written, built and run without Python, with the bits of `predict`."""

import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastlstm
from fastlstm import convert
from fastlstm._core import kernels
from fastlstm.layers import (
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    Flatten,
    Input,
    Lambda,
    TimeDistributed,
)

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "c"
COMPILER = shlex.split(os.environ.get("CC", "cc"))
needs_compiler = pytest.mark.skipif(
    shutil.which(COMPILER[0]) is None, reason=f"there is no C compiler {COMPILER[0]!r}"
)
RNG = np.random.default_rng(7)


def flags():
    """What `python -m fastlstm cflags` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "fastlstm", "cflags"], capture_output=True, text=True, check=True
    )
    return shlex.split(done.stdout)


def built(source, output, *more, compiler=COMPILER):
    """Compile a program with all warnings as errors."""
    strict = ["-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run(
        [*compiler, *strict, *more, source, *flags(), "-o", output], check=True, timeout=100
    )
    return output


def run(*command, text=""):
    """What the program prints, where there is neither Python nor anything else around it."""
    return subprocess.run(
        list(map(str, command)), input=text, capture_output=True, text=True, env={}, check=True
    ).stdout


def documented(beginning):
    """The command of the documentation that begins so, for this Python and this compiler."""
    text = (EXAMPLES.parent.parent / "docs" / "c_programs.md").read_text(encoding="utf-8")
    (line,) = re.findall(rf"^ *({re.escape(beginning)} .*)$", text, re.MULTILINE)
    line = re.sub(r"\bcc\b", lambda _: shlex.join(COMPILER), line)
    return line.replace("python -m", f"{shlex.quote(sys.executable)} -m")


@needs_compiler
@pytest.mark.skipif(os.name != "posix", reason="runs a shell")
@pytest.mark.parametrize(
    ("folder", "beginning"),
    [
        ("josé", "cc"),
        ("jose\u0301", "cc"),
        ("josé", "eval"),
        ("José's own $HOME", "eval"),
    ],
)
def test_the_documented_commands_build_from_packages_in_folders_of_any_name(
    tmp_path, folder, beginning
):
    package = Path(fastlstm.__file__).parent
    linked = tmp_path / folder / "fastlstm"
    linked.mkdir(parents=True)
    for path in package.iterdir():
        (linked / path.name).symlink_to(path)
    # The module that says where the header and the library lie: beside itself.
    (linked / "config.py").unlink()
    shutil.copy(package / "config.py", linked)
    shutil.copy(EXAMPLES / "stream.c", tmp_path / "program.c")
    environment = {**os.environ, "PYTHONPATH": str(linked.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    there = {"cwd": tmp_path, "env": environment, "check": True, "timeout": 100}
    where = [sys.executable, "-c", "import fastlstm; print(ascii(fastlstm.get_include()))"]
    found = subprocess.run(where, capture_output=True, text=True, **there)
    assert found.stdout.strip() == ascii(str(linked / "_c" / "include"))
    subprocess.run(["sh", "-c", documented(beginning)], **there)
    assert (tmp_path / "program").is_file()


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    return built(EXAMPLES / "stream.c", tmp_path_factory.mktemp("c") / "stream", "-std=c11")


def randomized(model):
    """Weights that are all different and not zero."""
    model.set_weights([0.5 * RNG.normal(size=w.shape) for w in model.get_weights()])
    return model


def stack(features, *layers):
    return randomized(fastlstm.Sequential([Input((None, features)), *layers]))


def widths(dtype):
    """Around those of vectors and micro-panels."""
    for units in (1, 3, 4, 5, 8, 15, 17, 33, 70):
        last = Dense(units + 1, activation="softmax", dtype=dtype)
        yield stack(units % 7 + 1, LSTM(units, return_sequences=True, dtype=dtype), last)


def kinds(dtype):
    """Every kind of layer, and its options."""
    sequence = {"return_sequences": True, "dtype": dtype}
    yield stack(
        2,
        LSTM(9, activation="relu", dropout=0.3, recurrent_dropout=0.2, **sequence),
        Dropout(0.5, dtype=dtype),
        LSTM(6, use_bias=False, recurrent_activation="hard_sigmoid", **sequence),
        TimeDistributed(Dense(7, activation="gelu", dtype=dtype)),
        Activation("softmax", dtype=dtype),
        Dense(2, use_bias=False, dtype=dtype),
    )
    yield stack(3, LSTM(5, stateful=True, dtype=dtype))
    yield stack(1, Dense(20, activation="tanh", dtype=dtype), Activation("elu", dtype=dtype))
    inner = fastlstm.Sequential([LSTM(4, **sequence), Activation("linear", dtype=dtype)])
    yield stack(2, inner, Dense(5, activation="selu", dtype=dtype))
    shared = LSTM(4, **sequence)
    yield stack(4, shared, shared, Dense(1, dtype=dtype))


def activations(dtype):
    for name in sorted(fastlstm.activations.ELEMENTWISE):
        gates = LSTM(5, activation=name, recurrent_activation="sigmoid", dtype=dtype)
        last = Dense(6, activation=name, dtype=dtype)
        yield stack(2, gates, last, Activation(name, dtype=dtype))
        yield stack(2, LSTM(3, recurrent_activation=name, return_sequences=True, dtype=dtype))


def predicted(model, x):
    """By the sums that C takes too: over BLAS, as by default on the baseline, they are others."""
    before = kernels.engine_name()
    if kernels.isa_name() == "baseline":
        kernels.use_engine("packed")
    try:
        return model.predict(x[None], verbose=0)[0]
    finally:
        kernels.use_engine(before)


def lines_of(x):
    return "\n".join(" ".join(map(repr, row)) for row in x.tolist())


def numbers(printed, dtype):
    return np.array([line.split() for line in printed.splitlines()], np.float64).astype(dtype)


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("models", [widths, kinds, activations])
def test_a_c_program_gets_the_bits_of_predict(stream, tmp_path, models, dtype):
    if kernels.isa_name() != kernels.available_isas()[-1]:
        pytest.skip("C programs run on the widest instruction set")
    for model in models(dtype):
        convert.to_c(model, tmp_path / "model.fastlstm")
        steps = 11
        x = RNG.normal(size=(steps, model.input_shape[-1])).astype(dtype)
        got = numbers(run(stream, tmp_path / "model.fastlstm", text=lines_of(x)), dtype)
        want = predicted(model, x)
        if want.ndim == 1:  # the output after the last step alone
            got = got[-1]
        np.testing.assert_array_equal(got, want)


PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <fastlstm.h>
#include "my_model.h"

int main(void)
{
    /* Anywhere in memory. */
    char *memory = (char *)malloc(1 + fastlstm_model_bytes(my_model_model, sizeof my_model_model));
    fastlstm_model *model = fastlstm_model_init(memory + 1, my_model_model, sizeof my_model_model);
    REAL values[8] = {0};
    for (int twice = 0; twice < 2; twice++) {
        for (int step = 0; step < 5; step++) {
            values[0] = (REAL)step, values[1] = (REAL)(1 - step);
            STEP(model, values, values);
            printf("%.17g %.17g %.17g\\n", (double)values[0], (double)values[1], (double)values[2]);
        }
        fastlstm_reset(model);
    }
    free(memory);
    return 0;
}
"""


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("language", ["c", "c++"])
def test_a_model_compiled_in_starts_again_after_a_reset(tmp_path, dtype, language):
    compiler = [shutil.which("c++") or ""] if language == "c++" else COMPILER
    if not compiler[0]:
        pytest.skip("there is no C++ compiler")
    model = stack(2, LSTM(7, return_sequences=True, dtype=dtype), Dense(3, dtype=dtype))
    convert.to_c(model, tmp_path / "my_model.h")
    source = tmp_path / ("program.c" if language == "c" else "program.cc")
    source.write_text(PROGRAM)
    real, step = ("float", "fastlstm_step"), ("double", "fastlstm_step_double")
    real, step = real if dtype == "float32" else step
    standard = "-std=c11" if language == "c" else "-std=c++11"
    program = built(
        source, tmp_path / "program", standard, f"-DREAL={real}", f"-DSTEP={step}",
        compiler=compiler,
    )  # fmt: skip
    steps = np.arange(5, dtype=dtype)
    want = predicted(model, np.stack([steps, 1 - steps], axis=1))
    got = numbers(run(program), dtype)
    if kernels.isa_name() == kernels.available_isas()[-1]:
        np.testing.assert_array_equal(got[:5], want)
    np.testing.assert_array_equal(got[:5], got[5:])
    assert len(np.unique(got[:5])) == 15


@needs_compiler
def test_the_example_of_an_audio_plug_in(tmp_path):
    model = stack(1, LSTM(8, return_sequences=True), Dense(1))
    convert.to_c(model, tmp_path / "amp.h")
    program = built(EXAMPLES / "blocks.c", tmp_path / "blocks", "-std=c11", f"-I{tmp_path}")
    sound = numbers(run(program), np.float32)
    assert sound.shape == (256, 2)
    assert len(np.unique(sound)) > 400


@needs_compiler
def test_the_example_tells_how_long_a_step_takes_and_refuses_what_is_no_model(stream, tmp_path):
    path = tmp_path / "model.fastlstm"
    convert.to_c(stack(1, LSTM(3), Dense(1)), path)
    assert run(stream, path, "--time", "10").endswith(" ns a step\n")
    data = bytearray(path.read_bytes())
    for damaged in (b"", data[:-64], data + bytes(64), b"x" + data[1:], bytes(len(data))):
        path.write_bytes(damaged)
        done = subprocess.run([stream, path], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "model" in done.stderr


@needs_compiler
@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("1 2\n3 4\n", 2),
        ("1 2\n\n3 4", 2),
        ("", 0),
        ("1 2\n3", None),
        ("1 two\n", None),
        ("1 2\n3 4\n,", None),
    ],
)
def test_the_example_refuses_input_that_is_no_steps(stream, tmp_path, text, steps):
    path = tmp_path / "model.fastlstm"
    convert.to_c(stack(2, LSTM(3), Dense(1)), path)
    done = subprocess.run([stream, path], input=text, capture_output=True, text=True, check=False)
    if steps is None:
        assert done.returncode == 1
        assert "the input must be numbers" in done.stderr
    else:
        assert (done.returncode, len(done.stdout.splitlines())) == (0, steps)


@needs_compiler
@pytest.mark.parametrize("steps", ["0", "-3", "", "ten", "10 ", "1e3", f"{10**30}"])
def test_the_example_times_whole_numbers_of_steps(stream, tmp_path, steps):
    path = tmp_path / "model.fastlstm"
    convert.to_c(stack(2, LSTM(3), Dense(1)), path)
    command = [stream, path, "--time", steps]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stdout) == (1, "")
    assert "STEPS" in done.stderr


def symbols(option):
    """What the library's files ask each other or the C library for, or have for others."""
    if sys.platform != "linux" or shutil.which("nm") is None:
        pytest.skip("reads symbols with nm")
    done = subprocess.run(["nm", option, flags()[1]], capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in done.stdout.splitlines() if re.search(r" [A-Z] ", line)}


def test_the_library_knows_neither_threads_nor_the_heap_nor_the_environment():
    asked = symbols("-u") - symbols("--defined-only")
    allowed = {"memcpy", "memmove", "memset", "memcmp", "strlen", "_GLOBAL_OFFSET_TABLE_"}
    runtime = {"__cpu_model", "__cpu_indicator_init", "__stack_chk_fail", "__assert_fail"}
    functions = {"exp", "expm1", "log1p", "log", "erfc", "erf", "pow", "sqrt", "tanh", "fabs"}
    assert "memcpy" in asked
    assert asked <= allowed | runtime | functions | {f"{name}f" for name in functions}


def test_no_name_of_the_library_can_be_one_of_the_program_s():
    names = symbols("--defined-only")
    assert "fastlstm_step" in names
    assert [name for name in names if not name.startswith("fastlstm_")] == []


@needs_compiler
def test_the_library_has_the_sources_of_cmakelists():
    if shutil.which("ar") is None:
        pytest.skip("reads the library with ar")
    library = Path(flags()[1])
    done = subprocess.run(["ar", "t", library], capture_output=True, text=True, check=True)
    members = {name.partition("csrc_")[2].partition(".")[0] for name in done.stdout.split()}
    listed = re.findall(r"[a-z]+/[a-z0-9_]+\.c\b", (library.parent / "CMakeLists.txt").read_text())
    isas = {f"kernels_kernels_{isa}" for isa in ("avx2", "avx512", "neon")}
    named = {source.removesuffix(".c").replace("/", "_") for source in listed}
    assert named - isas == members - isas
    assert members <= named


# ---- what is written -----------------------------------------------------------------------------


def test_both_forms_hold_the_same_bytes(tmp_path):
    model = stack(3, LSTM(5, return_sequences=True), Dense(2))
    convert.to_c(model, tmp_path / "one.fastlstm")
    convert.to_c(model, tmp_path / "one.h")
    text = (tmp_path / "one.h").read_text()
    words = text[text.index("{") + 1 : text.index("}")].replace("\n", "").split(",")
    data = b"".join(struct.pack("<Q", int(word, 16)) for word in words if word.strip())
    assert data == (tmp_path / "one.fastlstm").read_bytes()
    assert f"one_model[{len(data) // 8}]" in text


def refusal(model, path="model.fastlstm"):
    with pytest.raises(ValueError, match=r"^to_c: ") as caught:
        convert.to_c(model, path)
    assert not Path(path).exists()
    return str(caught.value)


def test_what_needs_the_whole_sequence_is_refused_by_name_all_at_once():
    model = fastlstm.Sequential(
        [
            Input((4, 2)),
            Bidirectional(LSTM(3, return_sequences=True), name="both"),
            LSTM(3, return_sequences=True, go_backwards=True, name="back"),
            TimeDistributed(Lambda(np.tanh), name="own"),
            Flatten(name="flat"),
            Dense(2, dtype="float64"),
        ]
    )
    message = refusal(model)
    for part in ("both", "back", "go_backwards", "own", "flat", "float32, float64"):
        assert part in message
    assert "dense" not in message


def test_what_is_no_stack_of_rows_is_refused():
    x = Input((None, 2))
    assert "not a Sequential" in refusal(fastlstm.Model(x, Dense(3)(x)))
    deep = fastlstm.Sequential([Input((None, 2, 3)), Dense(4)])
    assert "(None, None, 2, 3)" in refusal(deep)
    assert "computes nothing" in refusal(fastlstm.Sequential([Input((None, 2)), Dropout(0.5)]))


def test_models_that_are_not_built_and_other_names_are_refused():
    with pytest.raises(ValueError, match="not built"):
        convert.to_c(fastlstm.Sequential([Dense(1)]), "model.fastlstm")
    model = stack(1, Dense(1))
    assert "must end in" in refusal(model, "model.bin")
    for name in ("two words.h", "3.h", "größe.h", ".h"):
        refusal(model, name)


@pytest.mark.parametrize("name", ["stdint", "stdio", "stddef", "Math", "fastlstm"])
def test_headers_that_would_hide_those_of_c_or_ours_are_refused(tmp_path, name):
    message = refusal(stack(1, Dense(1)), tmp_path / f"{name}.h")
    assert f"my_{name}.h" in message


@needs_compiler
def test_no_header_of_a_model_takes_another_for_itself(tmp_path):
    names = ["amp", "Amp", "AMP", "fastlstm_amp"]
    for k, name in enumerate(names):
        folder = tmp_path / f"of_{k}"  # since to some systems they are one file
        folder.mkdir()
        convert.to_c(stack(1, Dense(1)), folder / f"{name}.h")
    includes = "".join(f'#include "of_{k}/{name}.h"\n' for k, name in enumerate(names))
    sizes = " + ".join(f"fastlstm_model_bytes({name}_model, sizeof {name}_model)" for name in names)
    source = tmp_path / "program.c"
    source.write_text(f"{includes}#include <fastlstm.h>\nint main(void) {{ return !({sizes}); }}\n")
    run(built(source, tmp_path / "program", "-std=c11"))


def test_the_folder_of_the_header():
    assert (Path(fastlstm.get_include()) / "fastlstm.h").is_file()
    assert (Path(fastlstm.get_include()).parent / "CMakeLists.txt").is_file()
