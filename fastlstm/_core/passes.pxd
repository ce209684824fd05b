"""The passes of an LSTM in C, for Cython; csrc/layers/lstm.h says what every field means."""

cdef extern from "base/pool.h" nogil:
    ctypedef struct barrier_t "barrier":
        pass

cdef extern from "base/wavefront.h" nogil:
    enum: WAVEFRONT_MOST_ROWS

from fastlstm._core.watch cimport pass_watch

cdef extern from "layers/lstm.h" nogil:
    ctypedef struct lstm_pass:
        const void *kernels
        int activation, recurrent_activation, workers, go_backwards
        Py_ssize_t batch, steps, features, units
        const unsigned char *valid
        const unsigned char *shown
        const void *x
        void *workspace
        pass_watch *watch
        barrier_t barrier

    ctypedef struct lstm_forward:
        lstm_pass base "pass"
        const void *kernel
        const void *recurrent_kernel
        const void *bias
        void *h
        void *c
        void *y
        void *gates
        void *saved_c
        void *saved_h

    ctypedef struct lstm_backward:
        lstm_pass base "pass"
        const void *kernel
        const void *recurrent_kernel
        const void *gates
        const void *saved_c
        const void *saved_h
        const void *h0
        const void *c0
        const void *dy
        void *dh
        void *dc
        void *dx
        void *dkernel
        void *drecurrent_kernel
        void *dbias

    ctypedef struct lstm_functions:
        int (*wants_packed)(double rows) noexcept nogil
        int (*forward_workers)(const lstm_pass *self) noexcept nogil
        int (*backward_workers)(const lstm_pass *self) noexcept nogil
        size_t (*forward_workspace_bytes)(const lstm_forward *self) noexcept nogil
        size_t (*backward_workspace_bytes)(const lstm_backward *self) noexcept nogil
        void (*run_forward)(lstm_forward *self) noexcept nogil
        void (*run_forward_unpacked)(lstm_forward *self) noexcept nogil
        void (*store_step)(const lstm_forward *self, Py_ssize_t b, Py_ssize_t step, const void *h,
                           const void *c) noexcept nogil
        void (*run_backward)(lstm_backward *self) noexcept nogil
        int (*prefers_company)(const lstm_pass *self) noexcept nogil
        void (*run_forward_pair)(lstm_forward **passes) noexcept nogil
        int (*prefers_wavefront)(lstm_forward **passes, int count) noexcept nogil
        void (*run_forward_stack)(lstm_forward **passes, int count) noexcept nogil

    const lstm_functions lstm_functions_f32, lstm_functions_f64

cdef extern from "layers/pack.h" nogil:
    ctypedef struct packing_functions:
        Py_ssize_t (*size)(const void *kernels, Py_ssize_t depth, Py_ssize_t columns) noexcept nogil
        void (*groups)(const void *kernels, Py_ssize_t depth, int groups, Py_ssize_t count,
                       const void *weights, void *packed) noexcept nogil
        void (*transposed)(const void *kernels, Py_ssize_t depth, Py_ssize_t columns,
                           const void *weights, void *packed) noexcept nogil

    const packing_functions packing_f32, packing_f64

cdef extern from "layers/dense.h" nogil:
    ctypedef struct dense_pass:
        const void *kernels
        int activation, workers
        Py_ssize_t rows, features, units
        const void *x
        void *workspace
        pass_watch *watch
        barrier_t barrier

    ctypedef struct dense_forward:
        dense_pass base "pass"
        const void *kernel
        const void *bias
        void *z
        void *y

    ctypedef struct dense_backward:
        dense_pass base "pass"
        const void *kernel
        const void *z
        const void *y
        const void *dy
        void *dx
        void *dkernel
        void *dbias

    ctypedef struct dense_functions:
        Py_ssize_t (*packed_size)(const void *kernels, Py_ssize_t features,
                                  Py_ssize_t units) noexcept nogil
        void (*pack)(const void *kernels, Py_ssize_t features, Py_ssize_t units,
                     const void *kernel, void *packed) noexcept nogil
        int (*wants_packed)(Py_ssize_t units, double rows) noexcept nogil
        int (*wants_transposed)(const dense_pass *self) noexcept nogil
        int (*workers)(const dense_pass *self, int products) noexcept nogil
        void (*run_forward)(dense_forward *self) noexcept nogil
        void (*run_forward_unpacked)(dense_forward *self) noexcept nogil
        size_t (*backward_workspace_bytes)(const dense_backward *self) noexcept nogil
        void (*run_backward)(dense_backward *self) noexcept nogil

    const dense_functions dense_f32, dense_f64
