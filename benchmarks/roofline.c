/* What one core can do: multiply-adds in registers, and bytes read from each level of memory.
 * Compiled for the instruction set in use when it is needed; see roofline.py. */
#include <stddef.h>

#if defined(__AVX512F__)
enum { WIDTH = 64 };
#elif defined(__AVX__)
enum { WIDTH = 32 };
#else
enum { WIDTH = 16 };
#endif
#if defined(__x86_64__)
#define REGISTER "+v"
#else
#define REGISTER "+w"
#endif
typedef float vec __attribute__((vector_size(WIDTH)));
enum { LANES = WIDTH / sizeof(float) };

/* Returns the operations done. The chains are independent, and the empty statement keeps the
 * compiler from joining or leaving out any. */
#define EACH_CHAIN(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11)
double multiply_add(long rounds, float *out)
{
#define START(c) vec sum##c = {0};
#define ADVANCE(c)           \
    sum##c = sum##c * a + b; \
    __asm__ volatile("" : REGISTER(sum##c));
#define ADD(c) total += sum##c;
    vec a = {0}, b = {0}, total = {0};
    a += 1.0001f, b += 1e-4f;
    EACH_CHAIN(START)
    for (long i = 0; i < rounds; i++) {
        EACH_CHAIN(ADVANCE)
    }
    EACH_CHAIN(ADD)
    *out = total[0];
    return 2.0 * (double)rounds * 12 * LANES;
}

/* Reads `bytes` from p `rounds` times; returns the bytes read. */
double read_all(const float *p, ptrdiff_t bytes, long rounds, float *out)
{
    vec sums[4] = {{0}};
    const ptrdiff_t count = bytes / WIDTH / 4 * 4;
    for (long i = 0; i < rounds; i++)
        for (ptrdiff_t k = 0; k < count; k += 4) {
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++)
                sums[c] += ((const vec *)p)[k + c];
        }
    *out = (sums[0] + sums[1] + sums[2] + sums[3])[0];
    return (double)rounds * (double)count * WIDTH;
}
