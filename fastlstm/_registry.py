"""Turning what a user writes (a name, a class, an object, a saved dict) into an object."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from typing import Any, Generic, TypeVar

from fastlstm.errors import one_of

__all__ = [
    "PACKAGE",
    "Registry",
    "custom_class",
    "described",
    "home_of",
    "is_from_package",
    "not_known",
    "snake_case",
    "unlike",
]

T = TypeVar("T")


def snake_case(class_name: str) -> str:
    """``GlorotUniform`` -> ``glorot_uniform``; an acronym stays one word.

    Examples
    --------
    >>> snake_case("GlorotUniform"), snake_case("AUC"), snake_case("KLDivergence")
    ('glorot_uniform', 'auc', 'kl_divergence')
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", class_name)
    return words.lower()


def unlike(name: str, known: Container[str], separator: str) -> str:
    """`name`, with a number behind it if it is known already.

    Examples
    --------
    >>> unlike("mae", ["loss", "mae", "mae_1"], "_")
    'mae_2'
    """
    numbered, number = name, 1
    while numbered in known:
        numbered, number = f"{name}{separator}{number}", number + 1
    return numbered


PACKAGE = __name__.partition(".")[0]
# Who writes descriptions of objects that are known here by the same names.
_PACKAGES = (PACKAGE, "keras", "tf_keras", "tensorflow")
# Those in any registry.
_known_names: set[str] = set()


def home_of(cls: type) -> str:
    """Where a class was defined: the package's own name, or the user's module and what follows.

    A class in a function is at home in ``module.function.<locals>``.
    """
    if cls.__module__.partition(".")[0] == PACKAGE:
        return PACKAGE
    return f"{cls.__module__}.{cls.__qualname__}".rpartition(".")[0]


def described(value: Any) -> dict[str, Any]:
    """An object by its class, where that is at home, and its settings.

    Examples
    --------
    >>> from fastlstm.regularizers import L1
    >>> described(L1(0.5))
    {'class_name': 'L1', 'module': 'fastlstm', 'config': {'l1': 0.5}}
    """
    cls = type(value)
    return {"class_name": cls.__name__, "module": home_of(cls), "config": value.get_config()}


def is_from_package(spec: Mapping[str, Any]) -> bool:
    """Whether a description says that it is of a class of this package, or of Keras."""
    return str(spec.get("module")).partition(".")[0] in _PACKAGES


def custom_class(spec: Mapping[str, Any], custom_objects: Mapping[str, Any]) -> Any:
    """What `custom_objects` gives for a description; None for a class of this package.

    A class that only Keras has, or another version of this package, may be given.
    """
    name = spec.get("class_name", "")
    is_known = is_from_package(spec) and name in _known_names
    return None if is_known else custom_objects.get(name)


def not_known(kind: str, spec: Mapping[str, Any], reason: str) -> ValueError:
    """That a described class must be given, and how."""
    name = spec["class_name"]
    return ValueError(
        f"the {kind} {name!r} {reason}: give the one that is meant as "
        f"custom_objects={{{name!r}: ...}}."
    )


class Registry(Generic[T]):
    """The known classes of one kind, each under its CamelCase and its snake_case name.

    Parameters
    ----------
    kind : str
        What error messages call one of them: ``"initializer"``.
    base : type
        The class that all of them derive from.
    classes : iterable of type
    aliases : mapping of str to type, optional
        Further names, such as ``"mse"``.
    """

    def __init__(
        self,
        kind: str,
        base: type[T],
        classes: Iterable[type[T]],
        aliases: Mapping[str, type[T]] | None = None,
    ) -> None:
        self.kind = kind
        self.base = base
        self._classes: dict[str, type[T]] = {}
        for cls in classes:
            self._classes[cls.__name__] = cls
            self._classes[snake_case(cls.__name__)] = cls
        self._classes.update(aliases or {})
        _known_names.update(self._classes)

    def __contains__(self, name: object) -> bool:
        return name in self._classes

    def class_of(self, name: Any) -> type[T]:
        """The class called `name`; ``ValueError`` naming the known ones if there is none."""
        try:
            return self._classes[name]
        except (KeyError, TypeError):
            raise one_of(f"The {self.kind}", name, self._classes) from None

    def get(self, identifier: Any) -> T:
        """The object that `identifier` stands for.

        Parameters
        ----------
        identifier : an object of this kind, its class, a name, or a dict with ``class_name`` and
            ``config`` as Keras saves it.

        Raises
        ------
        ValueError
            For an unknown name, or a dict without ``class_name``.
        TypeError
            For anything else.
        """
        if isinstance(identifier, self.base):
            return identifier
        if isinstance(identifier, str):
            return self.class_of(identifier)()
        if isinstance(identifier, type) and issubclass(identifier, self.base):
            return identifier()
        if isinstance(identifier, Mapping):
            return self._from_dict(identifier)
        raise TypeError(
            f"The {self.kind} must be a name, a {self.base.__name__}, its class or a dict with "
            f"'class_name' and 'config', got {identifier!r}."
        )

    def _from_dict(self, saved: Mapping[str, Any]) -> T:
        if "class_name" not in saved:
            raise ValueError(
                f"The {self.kind} given as a dict must have 'class_name' and 'config', "
                f"got the keys {sorted(map(str, saved))}."
            )
        if saved.get("module") is not None and not is_from_package(saved):
            raise not_known(self.kind, saved, f"was defined in {saved['module']!r}, not here")
        cls: Any = self.class_of(saved["class_name"])
        config = dict(saved.get("config") or {})
        if hasattr(cls, "from_config"):
            return cls.from_config(config)
        return cls(**config)
