/* SPDX-License-Identifier: MIT
 * Models of LSTM and dense layers in C and C++ programs, one time step after the other, without
 * Python.
 *
 * `fastlstm.convert.to_c(model, "amp.h")` writes a model as a header with one array, and
 * to_c(model, "amp.fastlstm") the same bytes as a file to be read at run time:
 *
 *     #include <fastlstm.h>
 *     #include "amp.h"
 *
 *     // memory: fastlstm_model_bytes(amp_model, sizeof amp_model) bytes of your own
 *     fastlstm_model *model = fastlstm_model_init(memory, amp_model, sizeof amp_model);
 *     for (;;)
 *         fastlstm_step(model, x, y);
 *
 * Nothing here allocates, locks, starts a thread, reads the environment or prints, so fastlstm_step
 * is for threads that must not wait: it does the same work every time. Different models may run in
 * different threads at once; one model is one stream of data and belongs to one thread at a time.
 *
 * What the steps of a sequence return equals, bit for bit, what `model.predict` returns for it in
 * Python on the same CPU, where that computes on the instruction set of its own choice.
 */
#ifndef FASTLSTM_H
#define FASTLSTM_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fastlstm_model fastlstm_model;

/* How many bytes of memory the model in `flat` (size bytes) takes on this CPU, or 0 where that is
 * no such model, or damaged, or of a later version of the format, or not at a multiple of 8, as
 * memory for doubles and the array of a header are. Any bytes may be given; files that were made
 * to do harm are told by their sizes. */
size_t fastlstm_model_bytes(const void *flat, size_t size);

/* Makes the model in `memory`, which has at least fastlstm_model_bytes and may lie anywhere; all
 * states are zero. `flat` is not needed any more afterwards, and `memory` for as long as the model
 * is in use: it must not be moved or copied, and freeing it is all there is to do in the end.
 *
 * Returns NULL where fastlstm_model_bytes is 0 or `memory` is NULL. Takes milliseconds for large
 * models, so call it elsewhere than in the thread that must not wait. */
fastlstm_model *fastlstm_model_init(void *memory, const void *flat, size_t size);

/* Numbers that a step reads and writes. */
size_t fastlstm_inputs(const fastlstm_model *model);
size_t fastlstm_outputs(const fastlstm_model *model);

/* One time step of all layers: x (fastlstm_inputs) to y (fastlstm_outputs), which may overlap. The
 * states of the LSTM layers stay in the model for the next step.
 *
 * A model of float64 computes in double, one of float32 in float, whichever of the two functions is
 * called; where that is the other one the numbers are converted. */
void fastlstm_step(fastlstm_model *model, const float *x, float *y);
void fastlstm_step_double(fastlstm_model *model, const double *x, double *y);

/* Sets all states to zero: the next step is the first one of a sequence. */
void fastlstm_reset(fastlstm_model *model);

#ifdef __cplusplus
}
#endif

#endif
