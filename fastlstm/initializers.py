"""The first values of weights, by Keras's names and with Keras's statistics.

An initializer without a seed draws one when it is made; the same object therefore returns the
same values at every call. Values are drawn in float64 and rounded, so that a float32 and a
float64 layer of one seed start alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastlstm import config
from fastlstm._registry import Registry
from fastlstm.errors import one_of
from fastlstm.random import check_seed, generator, next_seed

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "constant",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "ones",
    "orthogonal",
    "random_normal",
    "random_uniform",
    "truncated_normal",
    "variance_scaling",
    "zeros",
]

Axes = Sequence[int] | None

# The standard deviation of a standard normal distribution cut off at -2 and 2:
# sqrt(1 - 2 * 2 * pdf(2) / (cdf(2) - cdf(-2))).
TRUNCATED_STDDEV = 0.87962566103423978


class Initializer:
    """The base of all initializers. Subclass it with `__call__`."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        """An array of `shape`; `dtype` None is `fastlstm.config.floatx()`."""
        raise NotImplementedError(f"{type(self).__name__} must implement `__call__`.")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Initializer:
        """The initializer that `get_config` describes."""
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def _dtype(dtype: Any) -> np.dtype:
    return np.dtype(config.floatx() if dtype is None else dtype)


class Constant(Initializer):
    """Every element is `value`, a number or an array that broadcasts to the shape.

    Examples
    --------
    >>> Constant(0.5)((2,)).tolist()
    [0.5, 0.5]
    """

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        return np.full(tuple(shape), self.value, dtype=_dtype(dtype))

    def get_config(self) -> dict[str, Any]:
        return {"value": self.value}


class Zeros(Initializer):
    """Every element is 0.

    Examples
    --------
    >>> Zeros()((2,)).tolist()
    [0.0, 0.0]
    """

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        return np.zeros(tuple(shape), dtype=_dtype(dtype))


class Ones(Initializer):
    """Every element is 1.

    Examples
    --------
    >>> Ones()((2,)).tolist()
    [1.0, 1.0]
    """

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        return np.ones(tuple(shape), dtype=_dtype(dtype))


class Identity(Initializer):
    """`gain` on the diagonal of a matrix, 0 elsewhere; ``ValueError`` unless the rank is 2.

    Examples
    --------
    >>> Identity()((2, 2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        if len(shape) != 2:
            raise ValueError(f"Identity: the shape must have rank 2, got {tuple(shape)}.")
        return (self.gain * np.eye(shape[0], shape[1])).astype(_dtype(dtype))

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain}


class RandomInitializer(Initializer):
    """The base of the random initializers: subclasses draw in `sample`."""

    def __init__(self, seed: int | None = None) -> None:
        self._given_seed = check_seed(seed, type(self).__name__)
        self.seed = next_seed() if self._given_seed is None else self._given_seed

    def sample(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """A float64 array of `shape` drawn from `random`."""
        raise NotImplementedError(f"{type(self).__name__} must implement `sample`.")

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        return self.sample(generator(self.seed), tuple(shape)).astype(_dtype(dtype))

    def get_config(self) -> dict[str, Any]:
        return {"seed": self._given_seed}


def _truncated_normal(
    random: np.random.Generator, shape: tuple[int, ...], mean: float, stddev: float
) -> np.ndarray:
    """Normal values, those beyond two standard deviations drawn again."""
    values = random.standard_normal(shape)
    beyond = np.abs(values) > 2
    while beyond.any():
        values[beyond] = random.standard_normal(np.count_nonzero(beyond))
        beyond = np.abs(values) > 2
    return mean + stddev * values


class RandomNormal(RandomInitializer):
    """Normally distributed values.

    Examples
    --------
    >>> RandomNormal(stddev=0.1, seed=1)((3, 4)).shape
    (3, 4)
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean = mean
        self.stddev = stddev

    def sample(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return random.normal(self.mean, self.stddev, shape)

    def get_config(self) -> dict[str, Any]:
        return {"mean": self.mean, "stddev": self.stddev, **super().get_config()}


class TruncatedNormal(RandomNormal):
    """Normally distributed values, those beyond two standard deviations drawn again.

    Examples
    --------
    >>> bool((abs(TruncatedNormal(stddev=0.1, seed=1)((50,))) <= 0.2).all())
    True
    """

    def sample(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return _truncated_normal(random, shape, self.mean, self.stddev)


class RandomUniform(RandomInitializer):
    """Values spread evenly over [minval, maxval).

    Examples
    --------
    >>> RandomUniform(-1.0, 1.0, seed=1)((3, 4)).shape
    (3, 4)
    """

    def __init__(
        self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None
    ) -> None:
        super().__init__(seed)
        if not minval <= maxval:
            raise ValueError(
                f"RandomUniform: `minval` must not exceed `maxval`, got {minval} and {maxval}."
            )
        self.minval = minval
        self.maxval = maxval

    def sample(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return random.uniform(self.minval, self.maxval, shape)

    def get_config(self) -> dict[str, Any]:
        return {"minval": self.minval, "maxval": self.maxval, **super().get_config()}


class VarianceScaling(RandomInitializer):
    """Values whose variance is `scale` / n, n being a number of connections.

    Parameters
    ----------
    scale : float
    mode : "fan_in", "fan_out" or "fan_avg"
        n is the number of inputs of a unit, of its outputs, or their mean.
    distribution : "truncated_normal" (or "normal"), "untruncated_normal" or "uniform"
    seed : int, optional
    input_axes, output_axes : sequences of int, optional
        The axes to count as inputs and outputs; both or neither.

    Examples
    --------
    >>> VarianceScaling(2.0, "fan_in", "uniform", seed=1)((3, 4)).shape
    (3, 4)
    """

    _MODES = ("fan_in", "fan_out", "fan_avg")
    _DISTRIBUTIONS = ("uniform", "truncated_normal", "untruncated_normal")

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
        input_axes: Axes = None,
        output_axes: Axes = None,
    ) -> None:
        super().__init__(seed)
        name = type(self).__name__
        if not scale > 0:
            raise ValueError(f"{name}: `scale` must be positive, got {scale!r}.")
        if mode not in self._MODES:
            raise one_of(f"{name}: `mode`", mode, self._MODES)
        lowered = str(distribution).lower()
        self.distribution = "truncated_normal" if lowered == "normal" else lowered
        if self.distribution not in self._DISTRIBUTIONS:
            raise one_of(f"{name}: `distribution`", distribution, self._DISTRIBUTIONS)
        if (input_axes is None) != (output_axes is None):
            raise ValueError(f"{name}: give both `input_axes` and `output_axes` or neither.")
        self.scale = scale
        self.mode = mode
        self.input_axes = input_axes
        self.output_axes = output_axes

    def sample(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        variance = self.scale / max(1.0, self._connections(shape))
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return random.uniform(-limit, limit, shape)
        if self.distribution == "untruncated_normal":
            return random.normal(0.0, math.sqrt(variance), shape)
        return _truncated_normal(random, shape, 0.0, math.sqrt(variance) / TRUNCATED_STDDEV)

    def _connections(self, shape: tuple[int, ...]) -> float:
        fan_in, fan_out = _fans(shape, self.input_axes, self.output_axes)
        return {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]

    def get_config(self) -> dict[str, Any]:
        return {
            "scale": self.scale,
            "mode": self.mode,
            "distribution": self.distribution,
            **self._seed_and_axes(),
        }

    def _seed_and_axes(self) -> dict[str, Any]:
        return {
            "seed": self._given_seed,
            "input_axes": self.input_axes,
            "output_axes": self.output_axes,
        }


def _fans(shape: tuple[int, ...], input_axes: Axes, output_axes: Axes) -> tuple[int, int]:
    """The inputs and outputs of a unit: the last two axes, times all axes before them."""
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[i] for i in input_axes), math.prod(shape[i] for i in output_axes)
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


class _FixedScaling(VarianceScaling):
    """A `VarianceScaling` whose first three arguments are the class's own."""

    _SCALE: float
    _MODE: str
    _DISTRIBUTION: str

    def __init__(
        self, seed: int | None = None, input_axes: Axes = None, output_axes: Axes = None
    ) -> None:
        super().__init__(self._SCALE, self._MODE, self._DISTRIBUTION, seed, input_axes, output_axes)

    def get_config(self) -> dict[str, Any]:
        return self._seed_and_axes()


class GlorotUniform(_FixedScaling):
    """Uniform within sqrt(6 / (fan_in + fan_out)). Glorot and Bengio, 2010.

    Examples
    --------
    >>> GlorotUniform(seed=1)((3, 4)).shape
    (3, 4)
    """

    _SCALE, _MODE, _DISTRIBUTION = 1.0, "fan_avg", "uniform"


class GlorotNormal(_FixedScaling):
    """Truncated normal of variance 2 / (fan_in + fan_out). Glorot and Bengio, 2010.

    Examples
    --------
    >>> GlorotNormal(seed=1)((3, 4)).shape
    (3, 4)
    """

    _SCALE, _MODE, _DISTRIBUTION = 1.0, "fan_avg", "truncated_normal"


class HeUniform(_FixedScaling):
    """Uniform within sqrt(6 / fan_in). He et al., 2015.

    Examples
    --------
    >>> HeUniform(seed=1)((3, 4)).shape
    (3, 4)
    """

    _SCALE, _MODE, _DISTRIBUTION = 2.0, "fan_in", "uniform"


class HeNormal(_FixedScaling):
    """Truncated normal of variance 2 / fan_in. He et al., 2015.

    Examples
    --------
    >>> HeNormal(seed=1)((3, 4)).shape
    (3, 4)
    """

    _SCALE, _MODE, _DISTRIBUTION = 2.0, "fan_in", "truncated_normal"


class LecunUniform(_FixedScaling):
    """Uniform within sqrt(3 / fan_in). LeCun et al., 1998.

    Examples
    --------
    >>> LecunUniform(seed=1)((3, 4)).shape
    (3, 4)
    """

    _SCALE, _MODE, _DISTRIBUTION = 1.0, "fan_in", "uniform"


class LecunNormal(_FixedScaling):
    """Truncated normal of variance 1 / fan_in. LeCun et al., 1998.

    Examples
    --------
    >>> LecunNormal(seed=1)((3, 4)).shape
    (3, 4)
    """

    _SCALE, _MODE, _DISTRIBUTION = 1.0, "fan_in", "truncated_normal"


class Orthogonal(RandomInitializer):
    """`gain` times a random matrix with orthonormal rows or columns, whichever are fewer.

    All axes but the last count as rows. The sign of each column of Q is fixed by the diagonal of
    R, which makes the distribution uniform. Saxe et al., 2013. ``ValueError`` for rank 0 or 1.

    Examples
    --------
    >>> import numpy as np
    >>> q = Orthogonal(seed=1)((4, 4), "float64")
    >>> bool(np.allclose(q.T @ q, np.eye(4)))
    True
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.gain = gain

    def sample(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: the shape must have rank 2 or more, got {shape}.")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(random.standard_normal((max(rows, columns), min(rows, columns))))
        q *= np.sign(np.diag(r))
        if rows < columns:
            q = q.T
        return self.gain * q.reshape(shape)

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain, **super().get_config()}


constant = Constant
glorot_normal = GlorotNormal
glorot_uniform = GlorotUniform
he_normal = HeNormal
he_uniform = HeUniform
identity = Identity
lecun_normal = LecunNormal
lecun_uniform = LecunUniform
ones = Ones
orthogonal = Orthogonal
random_normal = RandomNormal
random_uniform = RandomUniform
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling
zeros = Zeros

_REGISTRY: Registry[Initializer] = Registry(
    "initializer",
    Initializer,
    [
        Constant,
        GlorotNormal,
        GlorotUniform,
        HeNormal,
        HeUniform,
        Identity,
        LecunNormal,
        LecunUniform,
        Ones,
        Orthogonal,
        RandomNormal,
        RandomUniform,
        TruncatedNormal,
        VarianceScaling,
        Zeros,
    ],
    {
        "IdentityInitializer": Identity,
        "OrthogonalInitializer": Orthogonal,
        "normal": RandomNormal,
        "one": Ones,
        "uniform": RandomUniform,
        "zero": Zeros,
    },
)


def get(identifier: Any) -> Callable[..., np.ndarray]:
    """The initializer that `identifier` stands for.

    Parameters
    ----------
    identifier : str, Initializer, its class, a dict saved by Keras, or a function of
        ``(shape, dtype)`` that returns an array.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything else.

    Examples
    --------
    >>> get("glorot_uniform")
    GlorotUniform(seed=None, input_axes=None, output_axes=None)
    >>> get({"class_name": "Constant", "config": {"value": 2.0}})
    Constant(value=2.0)
    """
    if callable(identifier) and not isinstance(identifier, type):
        return identifier
    return _REGISTRY.get(identifier)
