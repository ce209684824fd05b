/* SPDX-License-Identifier: MIT
 * The real type of one compilation, and how names carry it.
 *
 * Define FASTLSTM_DOUBLE as 0 (float) or 1 (double) on the command line. NAMED(f) is f with the
 * instruction set and the type behind it: lstm_forward_avx512_f32. The includer defines ISA.
 */
#ifndef FASTLSTM_REAL_H
#define FASTLSTM_REAL_H

#ifndef FASTLSTM_DOUBLE
#error "define FASTLSTM_DOUBLE as 0 or 1"
#endif

#define PASTE3_(a, b, c) a##_##b##_##c
#define PASTE3(a, b, c) PASTE3_(a, b, c)
#define PASTE2_(a, b) a##_##b
#define PASTE2(a, b) PASTE2_(a, b)

#if FASTLSTM_DOUBLE
typedef double real;
#define TYPE f64
#define LIBM(name) name
#else
typedef float real;
#define TYPE f32
#define LIBM(name) name##f
#endif

#define TYPED(name) PASTE2(name, TYPE)
#define NAMED(name) PASTE3(name, ISA, TYPE)

#endif
