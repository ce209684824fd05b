#!/usr/bin/env bash
# The passes of csrc/ against plain loops, in both real types, without Python; its threads, too.
#
# usage: tools/check_csrc.sh [COMPILER [EMULATOR ...]]
#   tools/check_csrc.sh
#   tools/check_csrc.sh aarch64-linux-gnu-gcc qemu-aarch64 -L /usr/aarch64-linux-gnu
#   tools/check_csrc.sh x86_64-w64-mingw32-gcc-posix wine
set -euo pipefail

compiler=${1:-cc}
shift || true
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

machine=$("$compiler" -dumpmachine)
common="-std=gnu11 -O3 -pthread -ffp-contract=off -fno-math-errno -Wall -Wextra -Icsrc"
case $machine in
  x86_64*) isas="baseline avx2 avx512" ;;
  aarch64*) isas="baseline neon" ;;
  *) isas="baseline" ;;
esac
# As in setup.py, which says why.
[[ $machine != *mingw* ]] || common="$common -static -Wa,-muse-unaligned-vector-move"
flags_of() {
  case $1 in
    avx2) echo "-mavx2 -mfma" ;;
    avx512) echo "-mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx512cd -mfma" ;;
  esac
}

for double in 0 1; do
  objects=()
  compile() {
    local object="$work/$double-${#objects[@]}.o"
    "$compiler" $common -DFASTLSTM_DOUBLE=$double "${@:2}" -c "$1" -o "$object"
    objects+=("$object")
  }
  for isa in $isas; do
    # The dispatcher names the kernels of both types.
    for type in 0 1; do
      "$compiler" $common -DFASTLSTM_DOUBLE=$type $(flags_of "$isa") \
        -c "csrc/kernels_$isa.c" -o "$work/$isa-$type.o"
    done
    objects+=("$work/$isa-0.o" "$work/$isa-1.o")
  done
  for source in csrc/{pack,dense,lstm_functions,lstm_forward,lstm_backward,dispatch,team,blocks}.c; do
    compile "$source"
  done
  compile tests/csrc/check_passes.c -O1
  "$compiler" $common "${objects[@]}" -lm -o "$work/check.exe"
  "$@" "$work/check.exe"
done

sanitizer=-fsanitize=thread
echo "int main(void) { return 0; }" | "$compiler" $sanitizer -x c - -o "$work/empty" 2> "$work/why" &&
  "$@" "$work/empty" 2> "$work/why" || sanitizer=
"$compiler" $common -O1 -g $sanitizer tests/csrc/check_threads.c csrc/team.c csrc/blocks.c \
  -o "$work/threads.exe"
TSAN_OPTIONS=halt_on_error=1 "$@" "$work/threads.exe"
