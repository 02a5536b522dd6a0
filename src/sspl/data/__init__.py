"""Faces on disk and in memory: records, adapters, subsets, transforms, synthetic faces."""

from typing import TYPE_CHECKING

from sspl import public

if TYPE_CHECKING:
    from sspl.data.adapters.base import Adapter as Adapter
    from sspl.data.canvases import CanvasBatch as CanvasBatch
    from sspl.data.canvases import Canvases as Canvases
    from sspl.data.data_settings import DataSettings as DataSettings
    from sspl.data.data_settings import parse_data_spec as parse_data_spec
    from sspl.data.records import MISSING as MISSING
    from sspl.data.records import FaceRecord as FaceRecord
    from sspl.data.records import FaceSet as FaceSet
    from sspl.data.records import FaceSource as FaceSource
    from sspl.data.subsets import label_subset as label_subset
    from sspl.data.synthetic import render_face as render_face
    from sspl.data.synthetic import write_synthetic as write_synthetic
    from sspl.data.transforms import cut_squares as cut_squares
    from sspl.data.transforms import draw_geometry as draw_geometry
    from sspl.data.transforms import jitter_colour as jitter_colour
    from sspl.data.transforms import normalise as normalise
    from sspl.data.transforms import random_view as random_view
    from sspl.data.transforms import warp_images as warp_images
    from sspl.data.transforms import warp_masks as warp_masks
    from sspl.data.view_settings import ColourSettings as ColourSettings
    from sspl.data.view_settings import GeometrySettings as GeometrySettings
else:
    __getattr__, __all__ = public(
        __name__,
        adapters="Adapter",
        canvases="CanvasBatch Canvases",
        data_settings="DataSettings parse_data_spec",
        records="MISSING FaceRecord FaceSet FaceSource",
        subsets="label_subset",
        synthetic="render_face write_synthetic",
        transforms="ColourSettings GeometrySettings cut_squares draw_geometry jitter_colour "
        "normalise random_view warp_images warp_masks",
    )
