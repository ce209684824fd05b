/* SPDX-License-Identifier: MIT
 * The table of all functions of dense.h; compiled once for each real type.
 */
#include "layers/dense_common.h"

const dense_functions TYPED(dense) = {
    .packed_size = TYPED(dense_packed_size),
    .pack = TYPED(dense_pack),
    .wants_packed = dense_wants_packed,
    .wants_transposed = dense_wants_transposed,
    .workers = dense_workers,
    .run_forward = TYPED(dense_run_forward),
    .run_forward_unpacked = TYPED(dense_run_forward_unpacked),
    .backward_workspace_bytes = TYPED(dense_backward_workspace_bytes),
    .run_backward = TYPED(dense_run_backward),
};
