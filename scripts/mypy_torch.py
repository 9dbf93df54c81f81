"""What mypy cannot know about torch: a module's attributes may be of any type.

torch says that an attribute which it does not know, such as `model.blocks`, is a tensor or a
module. Models of timm and transformers hold numbers, functions and configurations as well, so that
every use of one would be an error.
"""

from collections.abc import Callable

from mypy.plugin import AttributeContext, Plugin
from mypy.types import AnyType, Type, TypeOfAny, UnionType, get_proper_type

GUESSED = {"torch._tensor.Tensor", "torch.nn.modules.module.Module"}


class ModuleAttributes(Plugin):
    """Takes what torch guesses for Any; declared attributes keep their types."""

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        return _any_for_a_guess


def _any_for_a_guess(context: AttributeContext) -> Type:
    found = get_proper_type(context.default_attr_type)
    names = {str(part) for part in found.items} if isinstance(found, UnionType) else set()
    return AnyType(TypeOfAny.explicit) if names == GUESSED else context.default_attr_type


def plugin(version: str) -> type[Plugin]:
    """Called by mypy, with its version."""
    return ModuleAttributes
