/* SPDX-License-Identifier: MIT
 * What libfastlstm.a shares between its files, as the linkers of other people's programs see it:
 * there every name begins with fastlstm_, since none may be one of theirs.
 */
#ifndef FASTLSTM_NAMES_H
#define FASTLSTM_NAMES_H

#define dense_pack_f32 fastlstm_dense_pack_f32
#define dense_pack_f64 fastlstm_dense_pack_f64
#define dense_packed_size_f32 fastlstm_dense_packed_size_f32
#define dense_packed_size_f64 fastlstm_dense_packed_size_f64
#define find_kernels_f32 fastlstm_find_kernels_f32
#define find_kernels_f64 fastlstm_find_kernels_f64
#define flat_next fastlstm_flat_next
#define flat_open fastlstm_flat_open
#define kernels_avx2_f32 fastlstm_kernels_avx2_f32
#define kernels_avx2_f64 fastlstm_kernels_avx2_f64
#define kernels_avx512_f32 fastlstm_kernels_avx512_f32
#define kernels_avx512_f64 fastlstm_kernels_avx512_f64
#define kernels_baseline_f32 fastlstm_kernels_baseline_f32
#define kernels_baseline_f64 fastlstm_kernels_baseline_f64
#define kernels_neon_f32 fastlstm_kernels_neon_f32
#define kernels_neon_f64 fastlstm_kernels_neon_f64
#define model_bytes_on fastlstm_model_bytes_on
#define model_functions_f32 fastlstm_model_functions_f32
#define model_functions_f64 fastlstm_model_functions_f64
#define model_init_on fastlstm_model_init_on
#define packing_f32 fastlstm_packing_f32
#define packing_f64 fastlstm_packing_f64
#define pool_run fastlstm_pool_run

#endif
