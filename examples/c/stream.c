/* Runs a model over numbers from standard input, one time step a line, as they come.
 *
 *     python -c "import fastlstm, fastlstm.convert as c; \
 *                c.to_c(fastlstm.load_model('model.safetensors'), 'model.fastlstm')"
 *     cc -O2 stream.c $(python -m fastlstm cflags) -o stream
 *     ./stream model.fastlstm < numbers.txt
 *     ./stream model.fastlstm --time 100000
 *
 * The second form steps over zeros and prints how long a step takes.
 */
#define _POSIX_C_SOURCE 199309L /* clock_gettime */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <fastlstm.h>

static void give_up(const char *why)
{
    fprintf(stderr, "stream: %s\n", why);
    exit(1);
}

static void *allocated(size_t size)
{
    void *const memory = calloc(size, 1);
    if (!memory)
        give_up("out of memory");
    return memory;
}

/* The bytes of a file, at a multiple of 8 as all that calloc returns. */
static void *read_file(const char *path, size_t *size)
{
    FILE *const file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) || ftell(file) < 1)
        give_up("the model cannot be read");
    *size = (size_t)ftell(file);
    void *const bytes = allocated(*size);
    rewind(file);
    if (fread(bytes, 1, *size, file) != *size)
        give_up("the model cannot be read");
    fclose(file);
    return bytes;
}

static fastlstm_model *load(const char *path)
{
    size_t size;
    void *const flat = read_file(path, &size);
    const size_t needed = fastlstm_model_bytes(flat, size);
    if (!needed)
        give_up("this is no model, or a damaged one");
    fastlstm_model *const model = fastlstm_model_init(allocated(needed), flat, size);
    free(flat);
    return model;
}

/* In double whatever the model computes in: 17 digits are enough to tell every number. */
static void run(fastlstm_model *model)
{
    const size_t inputs = fastlstm_inputs(model), outputs = fastlstm_outputs(model);
    double *const x = allocated(inputs * sizeof(double));
    double *const y = allocated(outputs * sizeof(double));
    for (;;) {
        for (size_t i = 0; i < inputs; i++) {
            const int found = scanf("%lf", &x[i]);
            if (found == EOF && i == 0 && !ferror(stdin))
                return;
            if (found != 1)
                give_up("the input must be numbers, as many for each step as the model reads");
        }
        fastlstm_step_double(model, x, y);
        for (size_t i = 0; i < outputs; i++)
            printf("%.17g%c", y[i], i + 1 < outputs ? ' ' : '\n');
        fflush(stdout);
    }
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The fastest of some rounds: in the others the machine did something else beside. */
static void measure(fastlstm_model *model, long steps)
{
    enum { ROUNDS = 10 };
    float *const x = allocated(fastlstm_inputs(model) * sizeof(float));
    float *const y = allocated(fastlstm_outputs(model) * sizeof(float));
    double best = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        const double start = seconds();
        for (long step = 0; step < steps; step++)
            fastlstm_step(model, x, y);
        const double taken = (seconds() - start) / (double)steps;
        best = taken < best ? taken : best;
    }
    printf("%.0f ns a step\n", 1e9 * best);
}

static long whole_number(const char *text)
{
    char *end;
    errno = 0;
    const long number = strtol(text, &end, 10);
    if (end == text || *end || errno || number < 1)
        give_up("STEPS must be a whole number, at least 1");
    return number;
}

int main(int count, char **arguments)
{
    const int is_measured = count == 4 && !strcmp(arguments[2], "--time");
    if (count != 2 && !is_measured)
        give_up("usage: stream MODEL.fastlstm [--time STEPS]");
    fastlstm_model *const model = load(arguments[1]);
    if (is_measured)
        measure(model, whole_number(arguments[3]));
    else
        run(model);
    return 0;
}
