"""What pyproject.toml cannot say of the build: the C kernels, the vendored BLAS, C for C programs.

Each instruction set's file in csrc/ is compiled once for each real type with its own flags, which
setuptools has no words for, and the objects are linked into `fastlstm._core.kernels`. Some of them
go into a static library too, which lies beside the sources in the package: `fastlstm.get_include`.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

CSRC = Path("csrc")
OPENBLAS = Path("fastlstm/_openblas")
FOR_C_PROGRAMS = Path("fastlstm/_c")  # csrc/ and libfastlstm.a
# Not imported, which would load the library: it may be one for another machine.
OPENBLAS_SOURCE = Path(str(distribution("scipy-openblas32").locate_file("scipy_openblas32")))
OPENBLAS_LIBRARY = next(
    path
    for path in (OPENBLAS_SOURCE / "lib").glob("libscipy_openblas*")
    if path.suffix in {".so", ".dylib", ".dll"}
)
# The objects are no sources of their extension, so it must hear of their files otherwise.
C_FILES = sorted(str(path) for path in CSRC.glob("*/*.[ch]"))
HEADERS = [path for path in C_FILES if path.endswith(".h")]
BLOCKS = CSRC / "base/blocks.c"  # the module `memory` has it
UNTYPED_SOURCES = [
    CSRC / "kernels/dispatch.c",
    *(path for path in sorted(CSRC.glob("base/*.c")) if path != BLOCKS),
]
TYPED_SOURCES = sorted(CSRC.glob("layers/*.c"))
# Of libfastlstm.a, beside the kernels; csrc/CMakeLists.txt has the same.
LIBRARY_SOURCES = [
    CSRC / "kernels/dispatch.c",
    *(CSRC / "model" / name for name in ("model.c", "flat.c", "alone.c")),
]
TYPED_LIBRARY_SOURCES = [
    CSRC / name for name in ("layers/pack.c", "layers/dense_pack.c", "model/steps.c")
]
# What Cython modules include of them: not the texts of the kernels.
INTERFACES = [path for path in HEADERS if "_template" not in path and "vec_" not in path]
# One wheel for all versions of Python from this one on, but for those without a GIL, which have no
# limited API.
LIMITED_API = ("Py_LIMITED_API", "0x030B0000")
HAS_LIMITED_API = not sysconfig.get_config_var("Py_GIL_DISABLED")
# FASTLSTM_DEBUG asks for bounds checks in every typed loop, and for the assertions of the C code.
DEBUG = bool(os.environ.get("FASTLSTM_DEBUG"))
# Without contraction the text of a formula decides how it is rounded, on every compiler. A square
# root that had to report its errors one by one would not be computed for several numbers at once.
C_FLAGS = [
    *("-std=gnu11", "-O3", "-g0", "-pthread"),
    *("-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-Wall", "-Wextra"),
    "-UNDEBUG" if DEBUG else "-DNDEBUG",
]
CYTHON_FLAGS = ["-O3", "-g0", "-ffp-contract=off", "-Wno-discarded-qualifiers"]
X86_FLAGS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx512cd", "-mfma"],
}
ARM_FLAGS: dict[str, list[str]] = {"baseline": [], "neon": []}
# Of the platform that is built for, which _PYTHON_HOST_PLATFORM names where it is another one.
MACHINE = sysconfig.get_platform().rpartition("-")[2]
ISA_FLAGS = {
    "x86_64": X86_FLAGS,
    "amd64": X86_FLAGS,
    "aarch64": ARM_FLAGS,
    "arm64": ARM_FLAGS,
}.get(MACHINE, {"baseline": []})
LINK_FLAGS = []
OPENBLAS_LINK_FLAGS = []
if sys.platform == "win32":
    # GCC keeps vectors of 32 and 64 bytes on a stack that Windows aligns to 16.
    C_FLAGS.append("-Wa,-muse-unaligned-vector-move")
    LINK_FLAGS += ["-static-libgcc", "-Wl,-Bstatic,-lwinpthread,-Bdynamic"]
elif sys.platform == "darwin":
    OPENBLAS_LINK_FLAGS.append("-Wl,-rpath,@loader_path/../_openblas")
else:
    OPENBLAS_LINK_FLAGS.append("-Wl,-rpath,$ORIGIN/../_openblas")


def extension(name: str) -> Extension:
    """One Cython module of the core."""
    to_blas = name == "blas"
    return Extension(
        f"fastlstm._core.{name}",
        [f"fastlstm/_core/{name}.pyx", *([str(BLOCKS)] if name == "memory" else [])],
        include_dirs=[str(CSRC), str(OPENBLAS_SOURCE / "include")],
        define_macros=[LIMITED_API] if HAS_LIMITED_API else [],
        extra_compile_args=CYTHON_FLAGS,
        extra_link_args=[*LINK_FLAGS, *(OPENBLAS_LINK_FLAGS if to_blas else [])],
        library_dirs=[str(OPENBLAS_LIBRARY.parent)] if to_blas else [],
        libraries=[OPENBLAS_LIBRARY.stem.removeprefix("lib")] if to_blas else [],
        depends=C_FILES if name == "kernels" else INTERFACES,
        py_limited_api=HAS_LIMITED_API,
    )


class BuildExtensions(build_ext):
    """Compiles the kernels, and lays OpenBLAS beside the extension that links to it.

    And what C programs use beside both.
    """

    def finalize_options(self) -> None:
        """Choose GCC on Windows too: the kernels are written in its C."""
        if sys.platform == "win32" and self.compiler is None:
            self.compiler = "mingw32"
        super().finalize_options()
        if DEBUG:
            self.build_temp += "-debug"

    def get_libraries(self, ext: Extension) -> list[str]:
        """On Windows, Python's limited API has a library of its own."""
        version = "python{}{}".format(*sys.version_info)
        found = super().get_libraries(ext)
        return ["python3" if HAS_LIMITED_API and name == version else name for name in found]

    def run(self) -> None:
        """Build, and lay what was built into the source tree as well, with what lies beside it.

        An editable install needs it there, and so does ``pip install . && python -m fastlstm``
        in a checkout: `python -m` looks into the current folder before it looks for what was
        installed.
        """
        self.vendor_openblas(Path(self.build_lib) / OPENBLAS)
        super().run()
        library = self.build_library()
        self.lay_out_for_c_programs(Path(self.build_lib) / FOR_C_PROGRAMS, library)
        if os.access(".", os.W_OK):
            self.vendor_openblas(OPENBLAS)
            self.lay_out_for_c_programs(FOR_C_PROGRAMS, library)
            if not self.inplace:
                self.copy_extensions_to_source()

    def build_extension(self, ext: Extension) -> None:
        """Link the kernels' objects into the module that holds them."""
        if ext.name == "fastlstm._core.kernels":
            ext.extra_objects = self.compile_with_kernels(UNTYPED_SOURCES, TYPED_SOURCES)
        super().build_extension(ext)

    def build_library(self) -> Path:
        """libfastlstm.a, of the objects that Python's own passes are made of.

        In an archive they have no folders, so each gets a name of its own.
        """
        folder = Path(self.build_temp) / "library"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        objects = [
            shutil.copy2(each, folder / "_".join(Path(each).relative_to(self.build_temp).parts))
            for each in self.compile_with_kernels(LIBRARY_SOURCES, TYPED_LIBRARY_SOURCES)
        ]
        self.compiler.create_static_lib(list(map(str, objects)), "fastlstm", str(folder))
        return folder / "libfastlstm.a"

    def lay_out_for_c_programs(self, folder: Path, library: Path) -> None:
        """Copy csrc/ and the library into the package."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(CSRC, folder)
        shutil.copy2(library, folder)

    def compile_with_kernels(self, untyped: list[Path], typed_sources: list[Path]) -> list[str]:
        """Objects of csrc/: what knows a real type once for each, all kernels with their flags."""
        objects = []
        for source in untyped:
            objects += self.compile_c(source, C_FLAGS)
        for double in (0, 1):
            typed = [*C_FLAGS, f"-DFASTLSTM_DOUBLE={double}"]
            for source in typed_sources:
                objects += self.compile_c(source, typed, f"f{64 if double else 32}")
            for isa, flags in ISA_FLAGS.items():
                objects += self.compile_c(
                    CSRC / f"kernels/kernels_{isa}.c",
                    [*typed, *flags],
                    f"f{64 if double else 32}",
                )
        return objects

    def compile_c(self, source: Path, flags: list[str], folder: str = "") -> list[str]:
        """Compile one file of csrc/ into a folder of its own, since one file makes two objects."""
        path, output = str(source), str(Path(self.build_temp) / folder)
        objects = self.compiler.object_filenames([path], output_dir=output)
        if self.force or newer_group([path, *HEADERS], objects[0]):
            self.compiler.compile(
                [path], output_dir=output, include_dirs=[str(CSRC)], extra_postargs=flags
            )
        return objects

    def vendor_openblas(self, folder: Path) -> None:
        """Copy the shared library and its licence into the package."""
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(OPENBLAS_LIBRARY, folder / OPENBLAS_LIBRARY.name)
        for file in distribution("scipy-openblas32").files or []:
            if "LICENSE" in file.name.upper():
                shutil.copy2(str(file.locate()), folder / "LICENSE.txt")


setup(
    ext_modules=cythonize(
        [extension(path.stem) for path in sorted(Path("fastlstm/_core").glob("*.pyx"))],
        build_dir="build/cython-debug" if DEBUG else "build/cython",
        compiler_directives={
            "language_level": "3str",
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "freethreading_compatible": True,
        },
    ),
    cmdclass={"build_ext": BuildExtensions},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if HAS_LIMITED_API else {},
)
