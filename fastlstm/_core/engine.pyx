"""See engine.pxd.

Every engine computes every layer on every instruction set, but for backward passes on unpacked
weights. Where nobody asks for one, the baseline computes over BLAS: its own products are plain C.
"""

from fastlstm._core.kernels cimport (
    ENGINE_BLAS, ENGINE_OF_CHOICE, ENGINE_PACKED, ENGINE_UNPACKED, Engine, engine_asked_for,
    has_products,
)
from fastlstm._core.plan cimport Plan, wants_packing


cdef Engine forward_engine(Plan plan, double rows) except? ENGINE_OF_CHOICE:
    """What computes a forward pass of so many rows."""
    cdef bint is_worth_packing = wants_packing(plan, rows)
    cdef Engine asked = engine_asked_for()
    if asked != ENGINE_OF_CHOICE:
        return asked
    if not has_products():
        return ENGINE_BLAS
    return ENGINE_PACKED if is_worth_packing else ENGINE_UNPACKED


cdef Engine backward_engine(Engine forward) noexcept nogil:
    """What computes the backward pass after a forward pass: the same engine, but packed weights
    take the place of unpacked ones."""
    return ENGINE_PACKED if forward == ENGINE_UNPACKED else forward


cdef str engine_word(Engine engine):
    """As users name it."""
    return ("packed", "unpacked", "blas")[<int>engine]
