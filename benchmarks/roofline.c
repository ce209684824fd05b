/* What one core can do: multiply-adds in registers, bytes read from each level of memory, and the
 * kernels of csrc/ that are no products, on data in first- or second-level cache.
 * Compiled, with those kernels, for the instruction set in use when it is needed; see roofline.py,
 * which says by -DTABLE which table of kernels that is. */
#include <stddef.h>

#include "kernels/kernels.h"

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

/* ---- kernels: each returns how many elements it went through ----------------------------------
 */

enum { ROWS = 6, UNITS = 64, ELEMENTS = 1024, PARAMETERS = 1 << 16 };

static float z[ROWS][GATES * UNITS], kept[ROWS][GATES * UNITS], c[ROWS][UNITS], c_prev[ROWS][UNITS],
    h[ROWS][UNITS], workspace[GATE_WORKSPACE_ROWS * UNITS];
static float x[ELEMENTS], y[ELEMENTS], dy[ELEMENTS];
static float p[PARAMETERS], g[PARAMETERS], m[PARAMETERS], v[PARAMETERS];

/* Numbers between -1 and 1 that repeat after 61. */
static void fill(float *values, ptrdiff_t count)
{
    for (ptrdiff_t k = 0; k < count; k++)
        values[k] = (float)(k * 7 % 61) / 30.5f - 1;
}

#define POINTERS(name) {name[0], name[1], name[2], name[3], name[4], name[5]}

static const gate_shape tile = {ROWS, UNITS, UNITS, UNITS};

double gates_forward(long rounds, int keep)
{
    float *const zs[ROWS] = POINTERS(z), *const keeps[ROWS] = POINTERS(kept);
    float *const cs[ROWS] = POINTERS(c), *const hs[ROWS] = POINTERS(h);
    const gates_f32 gates = select_gates_f32(&TABLE, ACTIVATION_TANH, ACTIVATION_SIGMOID);
    fill(z[0], sizeof z / sizeof(float));
    for (long i = 0; i < rounds; i++)
        gates.forward(&gates, tile, zs, keep ? keeps : NULL, cs, hs, workspace);
    return (double)rounds * ROWS * UNITS;
}

/* After gates_forward has kept something. */
double gates_backward(long rounds, int unused)
{
    (void)unused;
    const float *const keeps[ROWS] = POINTERS(kept), *const befores[ROWS] = POINTERS(c_prev);
    const float *const cs[ROWS] = POINTERS(c), *const dhs[ROWS] = POINTERS(h);
    static float dc[ROWS][UNITS];
    float *const dcs[ROWS] = POINTERS(dc), *const dzs[ROWS] = POINTERS(z);
    const gates_f32 gates = select_gates_f32(&TABLE, ACTIVATION_TANH, ACTIVATION_SIGMOID);
    for (long i = 0; i < rounds; i++)
        gates.backward(&gates, tile, keeps, befores, cs, dhs, dcs, dzs, workspace);
    return (double)rounds * ROWS * UNITS;
}

double activation_forward(long rounds, int activation)
{
    fill(x, ELEMENTS);
    for (long i = 0; i < rounds; i++)
        TABLE.activations[activation].forward(ELEMENTS, x, y);
    return (double)rounds * ELEMENTS;
}

double activation_backward(long rounds, int activation)
{
    fill(x, ELEMENTS);
    for (long i = 0; i < rounds; i++)
        TABLE.activations[activation].backward_from_output(ELEMENTS, x, y, dy);
    return (double)rounds * ELEMENTS;
}

double softmax_forward(long rounds, int unused)
{
    (void)unused;
    fill(x, ELEMENTS);
    for (long i = 0; i < rounds; i++)
        TABLE.softmax_forward(1, ELEMENTS, x, y);
    return (double)rounds * ELEMENTS;
}

double softmax_backward(long rounds, int unused)
{
    (void)unused;
    fill(x, ELEMENTS);
    for (long i = 0; i < rounds; i++)
        TABLE.softmax_backward(1, ELEMENTS, x, x, dy);
    return (double)rounds * ELEMENTS;
}

double adam(long rounds, int unused)
{
    (void)unused;
    const adam_numbers_f32 numbers = {1e-3f, 0.1f, 1e-3f, 1e-7f, 0, 0, 0};
    fill(g, PARAMETERS);
    for (long i = 0; i < rounds; i++)
        TABLE.updates.adam(PARAMETERS, p, g, m, v, NULL, &numbers);
    return (double)rounds * PARAMETERS;
}
