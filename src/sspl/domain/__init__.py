"""The ground: semantic classes, attributes and face regions. Imports nothing above it."""

from typing import TYPE_CHECKING

from sspl import public

if TYPE_CHECKING:
    from sspl.domain.attributes import AttributeSchema as AttributeSchema
    from sspl.domain.attributes import celeba_schema as celeba_schema
    from sspl.domain.attributes import load_schema as load_schema
    from sspl.domain.regions import REGIONS as REGIONS
    from sspl.domain.taxonomy import UNKNOWN as UNKNOWN
    from sspl.domain.taxonomy import Taxonomy as Taxonomy
    from sspl.domain.taxonomy import load_taxonomy as load_taxonomy
else:
    __getattr__, __all__ = public(
        __name__,
        attributes="AttributeSchema celeba_schema load_schema",
        regions="REGIONS",
        taxonomy="UNKNOWN Taxonomy load_taxonomy",
    )
