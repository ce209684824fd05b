/* What an audio plug-in does with a model: it is compiled in, its memory is there from the start,
 * and the thread that must not wait calls nothing but fastlstm_step.
 *
 *     python -c "import fastlstm, fastlstm.convert as c; \
 *                c.to_c(fastlstm.load_model('amp.safetensors'), 'amp.h')"
 *     cc -O2 blocks.c $(python -m fastlstm cflags) -o blocks
 *
 * amp.h is a model of one input and one output, here fed with a decaying tone.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <fastlstm.h>

#include "amp.h"

enum { CHANNELS = 2, BLOCK = 64, BLOCKS = 4, RATE = 48000 };

/* A model for each channel, since its states are the channel's past. */
static fastlstm_model *models[CHANNELS];

/* Before the first block, in a thread that may wait. Returns whether it worked. */
static int prepare(void)
{
    for (int channel = 0; channel < CHANNELS; channel++) {
        void *const memory = malloc(fastlstm_model_bytes(amp_model, sizeof amp_model));
        models[channel] = fastlstm_model_init(memory, amp_model, sizeof amp_model);
        if (!models[channel] || fastlstm_inputs(models[channel]) != 1 ||
            fastlstm_outputs(models[channel]) != 1)
            return 0;
    }
    return 1;
}

/* In the audio thread; in place, as hosts have it. */
static void process(float *const channels[CHANNELS], int frames)
{
    for (int channel = 0; channel < CHANNELS; channel++)
        for (int frame = 0; frame < frames; frame++)
            fastlstm_step(models[channel], &channels[channel][frame], &channels[channel][frame]);
}

int main(void)
{
    float left[BLOCK], right[BLOCK], *const channels[CHANNELS] = {left, right};
    if (!prepare()) {
        fprintf(stderr, "blocks: no model of one input and one output\n");
        return 1;
    }
    for (int block = 0; block < BLOCKS; block++) {
        for (int frame = 0; frame < BLOCK; frame++) {
            const float time = (float)(block * BLOCK + frame) / RATE;
            left[frame] = expf(-100 * time) * sinf(2764.6f * time);
            right[frame] = -left[frame];
        }
        process(channels, BLOCK);
        for (int frame = 0; frame < BLOCK; frame++)
            printf("%.9g %.9g\n", left[frame], right[frame]);
    }
    return 0;
}
