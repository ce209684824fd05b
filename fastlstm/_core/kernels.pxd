"""The C kernels for Cython, and the door to the tables that were chosen at import."""

cdef extern from "base/cpu.h" nogil:
    ctypedef unsigned long fp_mode
    fp_mode flush_denormals()
    void restore_denormals(fp_mode before)

cdef extern from "kernels/losses.h" nogil:
    cdef enum loss_kind:
        LOSS_SQUARED
        LOSS_ABSOLUTE
        LOSS_HUBER
        LOSS_LOG_COSH
        LOSS_BINARY
        LOSS_BINARY_LOGITS
        LOSS_BINARY_FUSED
        METRIC_BINARY_ACCURACY
        LOSS_ROWS
        LOSS_CATEGORICAL
        LOSS_CATEGORICAL_LOGITS
        LOSS_CATEGORICAL_FUSED
        LOSS_KL_DIVERGENCE
        LOSS_COSINE
        METRIC_CATEGORICAL_ACCURACY
        METRIC_TOP_K
        LOSS_LABELS
        LOSS_SPARSE
        LOSS_SPARSE_LOGITS
        LOSS_SPARSE_FUSED
        METRIC_SPARSE_ACCURACY
        METRIC_SPARSE_TOP_K

    ctypedef struct loss_pass:
        int kind
        Py_ssize_t rows, n
        const void *targets
        const void *predictions
        const double *weights
        double divisor, parameter, label_smoothing
        void *losses
        void *gradient
        double total

cdef extern from "kernels/kernels.h" nogil:
    const int ACTIVATION_COUNT
    const int ACTIVATION_LINEAR
    const int GATES
    const int GATE_WORKSPACE_ROWS

    ctypedef struct gate_shape:
        Py_ssize_t strips, count, stride, kept_stride

    ctypedef struct activation_f32:
        void (*forward)(Py_ssize_t n, const float *x, float *y) noexcept nogil
        void (*backward)(Py_ssize_t n, const float *x, const float *dy, float *dx) noexcept nogil
        void (*backward_from_output)(Py_ssize_t n, const float *y, const float *dy,
                                     float *dx) noexcept nogil

    ctypedef struct activation_f64:
        void (*forward)(Py_ssize_t n, const double *x, double *y) noexcept nogil
        void (*backward)(Py_ssize_t n, const double *x, const double *dy, double *dx) noexcept nogil
        void (*backward_from_output)(Py_ssize_t n, const double *y, const double *dy,
                                     double *dx) noexcept nogil

    ctypedef struct gates_f32:
        const char *name
        void (*forward)(const gates_f32 *self, gate_shape shape, float **z, float **kept, float **c,
                        float **h, float *workspace) noexcept nogil
        void (*backward)(const gates_f32 *self, gate_shape shape, const float **kept,
                         const float **c_prev, const float **c, const float **dh,
                         float **dc, float **dz, float *workspace) noexcept nogil

    ctypedef struct gates_f64:
        const char *name
        void (*forward)(const gates_f64 *self, gate_shape shape, double **z, double **kept,
                        double **c, double **h, double *workspace) noexcept nogil
        void (*backward)(const gates_f64 *self, gate_shape shape, const double **kept,
                         const double **c_prev, const double **c, const double **dh,
                         double **dc, double **dz, double *workspace) noexcept nogil

    ctypedef struct rmsprop_numbers_f32:
        float learning_rate, decay, rest, momentum, epsilon

    ctypedef struct adam_numbers_f32:
        float step_size, rest_1, rest_2, epsilon, mean_factor, gradient_factor, square_factor

    ctypedef struct updates_f32:
        void (*sgd)(Py_ssize_t n, float *p, const float *g, float *v, float lr, float mu,
                    int nesterov) noexcept nogil
        void (*rmsprop)(Py_ssize_t n, float *p, const float *g, float *s, float *v, float *a,
                        const rmsprop_numbers_f32 *numbers) noexcept nogil
        void (*adam)(Py_ssize_t n, float *p, const float *g, float *m, float *v,
                     float *largest, const adam_numbers_f32 *numbers) noexcept nogil
        void (*nadam)(Py_ssize_t n, float *p, const float *g, float *m, float *v,
                      const adam_numbers_f32 *numbers) noexcept nogil
        void (*adagrad)(Py_ssize_t n, float *p, const float *g, float *s, float lr,
                        float eps) noexcept nogil

    ctypedef struct rmsprop_numbers_f64:
        double learning_rate, decay, rest, momentum, epsilon

    ctypedef struct adam_numbers_f64:
        double step_size, rest_1, rest_2, epsilon, mean_factor, gradient_factor, square_factor

    ctypedef struct updates_f64:
        void (*sgd)(Py_ssize_t n, double *p, const double *g, double *v, double lr, double mu,
                    int nesterov) noexcept nogil
        void (*rmsprop)(Py_ssize_t n, double *p, const double *g, double *s, double *v, double *a,
                        const rmsprop_numbers_f64 *numbers) noexcept nogil
        void (*adam)(Py_ssize_t n, double *p, const double *g, double *m, double *v,
                     double *largest, const adam_numbers_f64 *numbers) noexcept nogil
        void (*nadam)(Py_ssize_t n, double *p, const double *g, double *m, double *v,
                      const adam_numbers_f64 *numbers) noexcept nogil
        void (*adagrad)(Py_ssize_t n, double *p, const double *g, double *s, double lr,
                        double eps) noexcept nogil

    ctypedef struct kernels_f32:
        activation_f32 activations[13]
        updates_f32 updates
        void (*run_losses)(loss_pass *loss) noexcept nogil
        void (*softmax_forward)(Py_ssize_t rows, Py_ssize_t n, const float *x,
                                float *y) noexcept nogil
        void (*softmax_backward)(Py_ssize_t rows, Py_ssize_t n, const float *y, const float *dy,
                                 float *dx) noexcept nogil

    ctypedef struct kernels_f64:
        activation_f64 activations[13]
        updates_f64 updates
        void (*run_losses)(loss_pass *loss) noexcept nogil
        void (*softmax_forward)(Py_ssize_t rows, Py_ssize_t n, const double *x,
                                double *y) noexcept nogil
        void (*softmax_backward)(Py_ssize_t rows, Py_ssize_t n, const double *y, const double *dy,
                                 double *dx) noexcept nogil

    gates_f32 select_gates_f32(const kernels_f32 *table, int activation, int recurrent_activation)
    gates_f64 select_gates_f64(const kernels_f64 *table, int activation, int recurrent_activation)

from fastlstm._core.passes cimport dense_functions, lstm_functions, packing_functions
from fastlstm._core.pool cimport pool_functions

ctypedef fused real:
    float
    double

cdef const kernels_f32 *table_f32() noexcept nogil
cdef const kernels_f64 *table_f64() noexcept nogil
cdef const void *table_of(bint is_double) noexcept nogil
cdef const lstm_functions *lstm_functions_of(bint is_double) noexcept nogil
cdef const dense_functions *dense_functions_of(bint is_double) noexcept nogil
cdef const packing_functions *packing_of(bint is_double) noexcept nogil
# Which code computes a layer: the kernels of the instruction set on weights laid out for them, the
# same on weights as they are, for so few rows that packing would take longer; the loops over BLAS.
cdef enum Engine:
    ENGINE_PACKED
    ENGINE_UNPACKED
    ENGINE_BLAS
    ENGINE_OF_CHOICE

cdef Engine engine_asked_for() noexcept nogil
# Whether the instruction set has products of its own that are worth more than those of BLAS.
cdef bint has_products() noexcept nogil

cdef const pool_functions *the_pool() noexcept nogil
