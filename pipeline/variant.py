"""Operators with variants: one operator, many ways of doing its work.

`edit` has editing methods, `invert` has inversions, `mask` has finders. A variant is a frozen value
with its own fields, bounds and documentation; its operator keeps the fields that all variants share
and holds one variant. In a recipe both are one flat table:

    [[stage]]
    operator = "edit"
    method = "sdedit"      # which variant
    checkpoint = "..."     # a field of the operator
    strength = 0.6         # a field of the variant
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Generic

from overpaint.pipeline.catalogue import Catalogue
from overpaint.pipeline.errors import UsageError, first_error
from overpaint.pipeline.operator import ModelT, Operator
from pydantic import (
    BaseModel,
    ConfigDict,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)


class Variant(BaseModel):
    """Settings of one way of doing an operator's work."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=()
    )

    pixels_version: ClassVar[int] = 1
    """Raised only when equal settings and inputs give other bytes than before."""
    reproducible: ClassVar[bool] = True
    """Whether equal rows get equal answers whenever they are asked for, see `Operator`."""
    idle_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields of the operator that change no byte where the variant does its work."""
    papers: ClassVar[tuple[str, ...]] = ()
    """arXiv numbers of the papers that it implements."""
    renamed: ClassVar[Mapping[str, str]] = {}
    """Former names of fields and their present names, for error messages."""

    @classmethod
    def summary(cls) -> str:
        """Returns the first line of the class's documentation."""
        return (cls.__doc__ or "").strip().split("\n", 1)[0]

    @classmethod
    def facts(cls) -> dict[str, str]:
        """Returns what `overpaint methods` tells of it, by label, in order."""
        return {"papers": ", ".join(cls.papers)}


class VariantOperator(Operator[ModelT], Generic[ModelT]):
    """Operator whose work is done by one of several variants."""

    variants: ClassVar[Catalogue[Any]]
    """Catalogue in which the field `method` is looked up."""
    default_method: ClassVar[str]
    """Variant of a stage that names none."""
    expanding: ClassVar[Mapping[str, type[BaseModel]]] = {}
    """Methods that stand for several stages, see `expanded`, with the fields of their tables."""

    settings: SerializeAsAny[Variant]
    """The variant; in a recipe its fields stand beside those of the operator."""

    @property
    def method(self) -> str:
        """Name of the variant."""
        return self.variants.name_of(type(self.settings))

    @property
    def reproducible(self) -> bool:
        """True where the variant is."""
        return self.settings.reproducible

    @property
    def has_settings(self) -> bool:
        """True where the variant is the operator's own, and a part of its recipe."""
        return True

    @model_validator(mode="before")
    @classmethod
    def _take_settings(cls, data: Any) -> Any:
        """Sorts the flat fields of a recipe into the operator's and the variant's."""
        if not isinstance(data, Mapping) or isinstance(data.get("settings"), Variant):
            return data
        if "settings" in data:
            raise ValueError("unknown field 'settings': write the method's fields beside it")
        name = data.get("method", cls.default_method)
        if not isinstance(name, str):
            raise ValueError(f"method = {name!r}: write a name")
        own = {key: value for key, value in data.items() if key in cls.model_fields}
        rest = {key: value for key, value in data.items() if key not in {*own, "method"}}
        return {**own, "settings": cls.make_settings(name, rest)}

    @classmethod
    def make_settings(cls, name: str, fields: Mapping[str, Any]) -> Variant:
        """Returns the variant of that name with the given fields.

        Raises:
            ValueError: there is no such variant, or a field is wrong; one sentence.
        """
        try:
            kind: type[Variant] = cls.variants.find(name)
        except UsageError as error:
            raise ValueError(str(error)) from error
        known = {*kind.model_fields, *cls.model_fields} - {"settings"}
        for key in fields:
            if key not in kind.model_fields and (hint := cls.explain_unused(kind, key)):
                raise ValueError(hint)
        try:
            return kind.model_validate(fields)
        except ValidationError as error:
            renamed = {**cls.renamed, **kind.renamed}
            raise ValueError(first_error(error, known, renamed)) from error

    @classmethod
    def explain_unused(cls, kind: type[Variant], field: str) -> str | None:
        """Explains why a variant has no such field; None where nothing better is to be said."""
        others = [name for name in cls.variants.names() if _has(cls.variants.find(name), field)]
        if field in kind.renamed or not others:
            return None
        label = f"{cls.variants.word} {cls.variants.name_of(kind)!r}"
        return f"{field} is not used by {label}, but by {', '.join(others)}"

    @model_serializer(mode="wrap")
    def _flatten(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        settings: dict[str, Any] = fields.pop("settings")
        return {"method": self.method, **fields, **settings} if self.has_settings else fields


def _has(kind: type[Variant], field: str) -> bool:
    return field in kind.model_fields
