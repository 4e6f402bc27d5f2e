"""Classes that are found by name: the name of their module, or `my_package.module:ClassName`.

A folder of modules with one class each is a catalogue: operators, editing methods, inversions, mask
finders. Nothing is registered; a new module is found because it is there. The name of a class is
part of identities, so it must not change when its package moves.
"""

import importlib
import importlib.util
import inspect
import pkgutil
from types import ModuleType
from typing import Any, Generic, TypeGuard, TypeVar

from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.operator import Operator

T = TypeVar("T")


class Catalogue(Generic[T]):
    """Concrete subclasses of one class, each named after its module.

    Args:
        package: package whose modules hold one of the classes each.
        base: class that all of them derive from.
        word: singular noun for error messages, such as `operator`.

    Example:
        >>> from overpaint.pipeline.catalogue import OPERATORS
        >>> OPERATORS.find("store").__name__
        'Store'
    """

    def __init__(self, package: str, base: type[T], word: str) -> None:
        self.package = package
        self.word = word
        self._base = base

    def names(self) -> list[str]:
        """Returns the names of the classes that come with Overpaint, in alphabetical order."""
        package = importlib.import_module(self.package)
        modules = [module for module in pkgutil.iter_modules(package.__path__) if not module.ispkg]
        return sorted(module.name for module in modules if self._shipped(module.name))

    def find(self, name: str) -> type[T]:
        """Returns the class of that name.

        Args:
            name: a module of the package, or `my_package.module:ClassName`.

        Raises:
            UsageError: there is no such module or class, or the class is of another kind.
        """
        if ":" in name:
            module_name, class_name = name.split(":", 1)
            return self._named(self._import(module_name, name), class_name, name)
        if name.isidentifier() and (kind := self._shipped(name)):
            return kind
        raise UsageError(f"unknown {self.word} {name!r}: {near_miss(name, self.names())}")

    def name_of(self, kind: type[Any]) -> str:
        """Returns the name by which a recipe asks for a class: stable, and part of identities."""
        if kind.__module__.startswith(f"{self.package}."):
            return kind.__module__.rsplit(".", 1)[-1]
        return f"{kind.__module__}:{kind.__qualname__}"

    def _shipped(self, name: str) -> type[T] | None:
        if importlib.util.find_spec(f"{self.package}.{name}") is None:
            return None
        module = importlib.import_module(f"{self.package}.{name}")
        return next(
            (kind for kind in self._kinds(module) if kind.__module__ == module.__name__), None
        )

    def _import(self, module_name: str, name: str) -> ModuleType:
        try:
            return importlib.import_module(module_name)
        except (ImportError, SyntaxError, TypeError, ValueError) as error:
            raise UsageError(
                f"{self.word} {name!r}: cannot import {module_name!r}: {error}"
            ) from error

    def _named(self, module: ModuleType, class_name: str, name: str) -> type[T]:
        kind = getattr(module, class_name, None)
        if not self._is_kind(kind):
            known = [kind.__name__ for kind in self._kinds(module)]
            hint = near_miss(class_name, known)
            raise UsageError(
                f"{self.word} {name!r}: the module has no {self.word} {class_name!r}: {hint}"
            )
        return kind

    def _kinds(self, module: ModuleType) -> list[type[T]]:
        return [value for value in vars(module).values() if self._is_kind(value)]

    def _is_kind(self, value: Any) -> TypeGuard[type[T]]:
        # pydantic leaves `Operator[Model]`, the base of an operator, in its module.
        return (
            isinstance(value, type)
            and issubclass(value, self._base)
            and value is not self._base
            and not inspect.isabstract(value)
        )


OPERATORS: Catalogue[Operator[Any]] = Catalogue("overpaint.operators", Operator, "operator")
"""Operators: the stages that a recipe can name."""
