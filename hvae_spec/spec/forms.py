"""Sections with fields in two forms, a short and a long one, of each of which a member has one."""

from typing import Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from hvae_spec.spec.base import SpecModel
from hvae_spec.spec.choice import OneOf
from hvae_spec.spec.fields import ShortFor, fact


class SpecInForms(SpecModel):
    """A section in which at most one form of a field has a value (`hvae_spec.spec.fields.ShortFor`)."""

    @model_validator(mode="after")
    def _one_form_of_each(self) -> Self:
        for name, info in type(self).model_fields.items():
            short = fact(info, ShortFor)
            if short is not None:
                default = info.get_default(call_default_factory=True)
                own, long = getattr(self, name), getattr(self, short.name)
                is_given = own is not None and (name in self.model_fields_set or own != default)
                if is_given and long is not None:
                    raise PydanticCustomError("two_forms", "one of {forms}", {"forms": f"{name} and {short.name}"})
                if short.values:
                    word = self._in_short(short, long)
                    has_word = word is not None
                    # Frozen for everyone else; this is a part of making it.
                    self.__dict__[name] = own if is_given else default if long is None else word
                    self.__dict__[short.name] = None if has_word else long
        return self

    def _in_short(self, short: ShortFor, long: object) -> object:
        """The value of a short form that says the same as one of its long form; None if none does."""
        chosen = fact(type(self).model_fields[short.name], OneOf)
        same = (word for word, value in short.values.items() if chosen is not None and chosen.validate(value) == long)
        return None if long is None else next(same, None)
