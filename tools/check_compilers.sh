#!/usr/bin/env bash
# The compiled core, built with other compilers, and its tests.
#
# usage: tools/check_compilers.sh [COMPILER ...]
#
# Without arguments: the oldest GCC and the oldest Clang that this Debian or Ubuntu has, installed
# if they are not and this is root. Of those that cannot be had it says so and passes. Needs what
# the build needs, and pytest.
set -euo pipefail

cd "$(dirname "$0")/.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

oldest() { # gcc or clang
  { compgen -c "$1-"; apt-cache --names-only search "^$1-[0-9]+\$" 2> /dev/null | cut -d ' ' -f 1; } |
    grep -x "$1-[0-9]*" | sort -u -t - -k 2n | head -n 1 || true
}

install() { # a compiler, which is its package too
  command -v "$1" > /dev/null && return
  [[ $(id -u) == 0 ]] && apt-get install -y -q --no-install-recommends "$1" > "$work/apt.txt" 2>&1
}

if (($# == 0)); then
  [[ $(id -u) != 0 ]] || apt-get update -q > /dev/null 2>&1 || true
  set -- $(oldest gcc) $(oldest clang)
  (($#)) || echo "no other compiler than cc: neither installed as gcc-N or clang-N, nor in apt's lists"
fi

for compiler; do
  if ! install "$compiler"; then
    echo "$compiler: not checked; it is not installed, and apt-get, which needs root, does not install it"
    continue
  fi
  echo "$compiler: $("$compiler" --version | head -n 1)"
  tree=$work/$compiler
  mkdir "$tree"
  tar -c --exclude=./.git --exclude='*.so' --exclude='./build/[tlb]*' . | tar -x -C "$tree"
  cd "$tree"
  CC=$compiler python setup.py --quiet build_ext --inplace --parallel 2 > "$work/build.txt" 2>&1 ||
    { cat "$work/build.txt"; exit 1; }
  PYTHONPATH=$tree python -m pytest -p no:cacheprovider \
    tests/test_{lstm_core,dense_core,vec_math,determinism}.py
  cd "$root"
done
