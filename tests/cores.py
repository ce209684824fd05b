"""What computes a test: the instruction sets of this machine, and the engines."""

from __future__ import annotations

from typing import NamedTuple

from fastlstm._core import kernels


class Core(NamedTuple):
    """What computes: an instruction set, and an engine or None for that which suits a pass."""

    isa: str
    engine: str | None

    def __str__(self) -> str:
        return f"{self.isa}-{self.engine or 'default'}"

    def path(self, rows: int) -> str:
        """What a cache of so many rows names first: plans that are new pack from 8 rows on."""
        default = "packed" if rows >= 8 else "unpacked"
        return f"{self.isa} {self.engine or ('blas' if self.isa == 'baseline' else default)}"


# Each engine on every instruction set would say little more than this.
_PLAINEST, _WIDEST = kernels.available_isas()[0], kernels.available_isas()[-1]
CORES = [Core(isa, None) for isa in kernels.available_isas()] + sorted(
    {Core(_PLAINEST, "packed"), Core(_WIDEST, "blas"), Core(_WIDEST, "unpacked")}
)
