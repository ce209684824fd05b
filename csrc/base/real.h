/* SPDX-License-Identifier: MIT
 * The real type of one compilation: define FASTLSTM_DOUBLE as 0 (float) or 1 (double) on the
 * command line.
 */
#ifndef FASTLSTM_REAL_H
#define FASTLSTM_REAL_H

#include "base/typed.h"

#ifndef FASTLSTM_DOUBLE
#error "define FASTLSTM_DOUBLE as 0 or 1"
#endif

#if FASTLSTM_DOUBLE
typedef double real;
#define TYPE f64
#define LIBM(name) name
#else
typedef float real;
#define TYPE f32
#define LIBM(name) name##f
#endif

#endif
