"""Finding an operator by name: a module of `overpaint.operators`, or `my_package.module:Class`."""

import importlib
import importlib.util
import inspect
import pkgutil
from types import ModuleType
from typing import Any, TypeGuard

from overpaint.pipeline.errors import UsageError, near_miss
from overpaint.pipeline.operator import Operator

_PACKAGE = "overpaint.operators"


def operator_class(name: str) -> type[Operator[Any]]:
    """The operator that a recipe names.

    Raises:
        UsageError: no such module or class, or it is not an operator.
    """
    if ":" in name:
        module_name, class_name = name.split(":", 1)
        return _named(_import(module_name, name), class_name, name)
    if name.isidentifier() and importlib.util.find_spec(f"{_PACKAGE}.{name}") is not None:
        found = _only_operator(importlib.import_module(f"{_PACKAGE}.{name}"))
        if found is not None:
            return found
    raise UsageError(f"unknown operator {name!r}: {near_miss(name, operator_names())}")


def operator_names() -> list[str]:
    """The names of the operators that come with Overpaint."""
    package = importlib.import_module(_PACKAGE)
    names = [module.name for module in pkgutil.iter_modules(package.__path__) if not module.ispkg]
    modules = {name: importlib.import_module(f"{_PACKAGE}.{name}") for name in names}
    return sorted(name for name, module in modules.items() if _only_operator(module))


def operator_name(operator: Operator[Any]) -> str:
    """The name by which a recipe would ask for this operator."""
    kind = type(operator)
    if kind.__module__.startswith(f"{_PACKAGE}."):
        return kind.__module__.removeprefix(f"{_PACKAGE}.")
    return f"{kind.__module__}:{kind.__qualname__}"


def _import(module_name: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except (ImportError, TypeError, ValueError) as error:
        raise UsageError(f"operator {name!r}: cannot import {module_name!r}: {error}") from error


def _named(module: ModuleType, class_name: str, name: str) -> type[Operator[Any]]:
    found = getattr(module, class_name, None)
    if not _is_operator(found):
        known = [word for word, value in vars(module).items() if _is_operator(value)]
        hint = near_miss(class_name, known)
        raise UsageError(f"operator {name!r}: the module has no operator {class_name!r}: {hint}")
    return found


def _is_operator(value: Any) -> TypeGuard[type[Operator[Any]]]:
    # pydantic leaves `Operator[Model]`, the base of an operator, in its module.
    return isinstance(value, type) and issubclass(value, Operator) and not inspect.isabstract(value)


def _only_operator(module: ModuleType) -> type[Operator[Any]] | None:
    own = [
        value
        for value in vars(module).values()
        if _is_operator(value) and value.__module__ == module.__name__
    ]
    return own[0] if own else None
