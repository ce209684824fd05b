/* SPDX-License-Identifier: MIT
 * How names carry a real type: TYPED(f) is f with TYPE behind it, kernels_f32; NAMED(f) is f with
 * the instruction set before that, kernels_avx512_f32. Both read TYPE and ISA where they stand.
 */
#ifndef FASTLSTM_TYPED_H
#define FASTLSTM_TYPED_H

#include "base/names.h"

#define PASTE3_(a, b, c) a##_##b##_##c
#define PASTE3(a, b, c) PASTE3_(a, b, c)
#define PASTE2_(a, b) a##_##b
#define PASTE2(a, b) PASTE2_(a, b)

#define TYPED(name) PASTE2(name, TYPE)
#define NAMED(name) PASTE3(name, ISA, TYPE)

#endif
