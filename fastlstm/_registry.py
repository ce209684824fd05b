"""Turning what a user writes (a name, a class, an object, a saved dict) into an object."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from fastlstm.errors import one_of

__all__ = ["Registry", "snake_case"]

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
        cls: Any = self.class_of(saved["class_name"])
        config = dict(saved.get("config") or {})
        if hasattr(cls, "from_config"):
            return cls.from_config(config)
        return cls(**config)
