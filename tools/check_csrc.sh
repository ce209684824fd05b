#!/usr/bin/env bash
# csrc/ in both real types without Python: products in every shape of a tile, and models with damaged
# files, under the address and undefined-behaviour sanitizers, and passes, against plain loops, with the assertions of a debug
# build; and what threads do, under ThreadSanitizer.
#
# usage: tools/check_csrc.sh [COMPILER [EMULATOR ...]]
#   tools/check_csrc.sh
#   tools/check_csrc.sh aarch64-linux-gnu-gcc qemu-aarch64 -L /usr/aarch64-linux-gnu
#   tools/check_csrc.sh x86_64-w64-mingw32-gcc-posix wine
set -euo pipefail
shopt -s extglob

compiler=${1:-cc}
shift || true
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

machine=$("$compiler" -dumpmachine)
common="-std=gnu11 -O3 -pthread -ffp-contract=off -fno-math-errno -Wall -Wextra -Werror -Icsrc"
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

# All but the kernels; of a program without a pool, csrc/model/alone.c takes the pool's place.
typed=(csrc/layers/*.c csrc/model/steps.c)
untyped=(csrc/kernels/dispatch.c csrc/base/*.c csrc/model/{flat,model}.c)

compile() { # folder, FASTLSTM_DOUBLE, source, flags
  "$compiler" $common -DFASTLSTM_DOUBLE="$2" "${@:4}" -c "$3" -o "$work/$1/$(basename "$3" .c)-$2.o"
}

# The whole of csrc/, in $work/FOLDER.
compile_csrc() { # folder, flags
  mkdir "$work/$1"
  for source in "${untyped[@]}"; do
    compile "$1" 0 "$source" "${@:2}"
  done
  for double in 0 1; do
    for isa in $isas; do
      compile "$1" $double "csrc/kernels/kernels_$isa.c" $(flags_of "$isa") "${@:2}"
    done
    for source in "${typed[@]}"; do
      compile "$1" $double "$source" "${@:2}"
    done
  done
}

# A program of tests/csrc/ for one type, linked with what compile_csrc left and run.
check() { # folder, FASTLSTM_DOUBLE, program, emulator
  local objects=("$work/$1"/!(check_*).o "$work/$1/$3-$2.o")
  "$compiler" $common "${objects[@]}" ${sanitizer:-} -lm -o "$work/$1/$3-$2.exe"
  "${@:4}" "$work/$1/$3-$2.exe"
}

# Sets `sanitizer` to the flag where the compiler has it, for programs that run here.
echo "int main(void) { return 0; }" > "$work/empty.c"
use_sanitizer() { # flag, emulator
  sanitizer=$1
  if ! { "$compiler" $1 "$work/empty.c" -o "$work/empty" && "${@:2}" "$work/empty"; } 2> "$work/why"; then
    echo "not under $1, which $compiler does not have here: $(tail -n 1 "$work/why")"
    sanitizer=
  fi
}

use_sanitizer -fsanitize=address,undefined "$@"
export ASAN_OPTIONS=detect_leaks=0
compile_csrc kernels -O1 -g $sanitizer -fno-sanitize-recover=undefined
for double in 0 1; do
  for program in check_kernels check_models; do
    compile kernels $double tests/csrc/$program.c -O1 -g $sanitizer -fno-sanitize-recover=undefined
    check kernels $double $program "$@"
  done
done

sanitizer=
compile_csrc plain
for double in 0 1; do
  compile plain $double tests/csrc/check_passes.c -O1
  check plain $double check_passes "$@"
done
compile plain 0 tests/csrc/check_threads.c -O1
check plain 0 check_threads "$@"

echo "tiles of every height"
for rows in 1 2 4 5 6; do
  compile plain 0 csrc/kernels/kernels_baseline.c -DMR=$rows
  for program in check_kernels check_passes; do
    compile plain 0 tests/csrc/$program.c -O1 -DONLY_BASELINE
    check plain 0 $program "$@" | sed -n "s/^[0-9].*wrong\$/& with $rows rows/p"
  done
done

use_sanitizer -fsanitize=thread "$@"
export TSAN_OPTIONS=halt_on_error=1
compile_csrc threads -O1 -g $sanitizer
for double in 0 1; do
  compile threads $double tests/csrc/check_races.c -O1 -g $sanitizer
  check threads $double check_races "$@"
done
compile threads 0 tests/csrc/check_threads.c -O1 -g $sanitizer -DNO_FORKS
check threads 0 check_threads "$@"
