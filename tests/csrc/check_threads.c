/* SPDX-License-Identifier: MIT
 * Blocks and the team in the hands of several threads at once: no block has two owners, and every
 * task is done once by each of its members. tools/check_csrc.sh runs it, under ThreadSanitizer
 * where the compiler has it.
 */
#include "blocks.h"
#include "team.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

enum { CALLERS = 4, ROUNDS = 2000, BLOCKS = 6, MEMBERS = 3 };

typedef struct {
    int calls[MEMBERS], members;
} tally;

static void count_member(void *argument, int member, int members)
{
    tally *const t = argument;
    t->calls[member]++;
    if (member == 0)
        t->members = members;
}

static int is_wrong(const tally *t)
{
    for (int member = 0; member < MEMBERS; member++)
        if (t->calls[member] != (member < t->members))
            return 1;
    return 0;
}

static void *call(void *argument)
{
    const int caller = (int)(intptr_t)argument;
    intptr_t wrong = 0;
    for (int round = 0; round < ROUNDS; round++) {
        block taken[BLOCKS];
        tally t = {{0}, 0};
        for (int i = 0; i < BLOCKS; i++) {
            taken[i] = block_take((size_t)1 << (4 + (round + i) % 12));
            wrong += (uintptr_t)taken[i].data % 64 != 0;
            *(int *)taken[i].data = CALLERS * i + caller;
        }
        team_run(MEMBERS, round % 64 == 0, count_member, &t);
        wrong += is_wrong(&t);
        for (int i = 0; i < BLOCKS; i++) {
            wrong += *(int *)taken[i].data != CALLERS * i + caller;
            block_give(taken[i]);
        }
    }
    return (void *)wrong;
}

int main(void)
{
    pthread_t callers[CALLERS];
    int wrong = 0;
    team_set_size(MEMBERS);
    for (intptr_t i = 0; i < CALLERS; i++)
        if (pthread_create(&callers[i], 0, call, (void *)i))
            return 2;
    for (int i = 0; i < CALLERS; i++) {
        void *found;
        pthread_join(callers[i], &found);
        wrong += (int)(intptr_t)found;
    }
    printf("%d of %d rounds of threads wrong\n", wrong, CALLERS * ROUNDS);
    return wrong != 0;
}
