"""Results as DICOM objects: images, maps, segmentations, pictures, reports; and their gate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dicom_node.config import OutputRules
from dicom_node.source import SourceStudy
from sr_core import SuperResolved

from .anatomy import anatomy_on_grid, anatomy_series
from .check import check, checked
from .derived_mr import derived_mr_series
from .encoded import EncodedObject, Kind
from .fused import fused_series
from .key_objects import key_objects
from .parametric_map import parametric_map_of, uncertainty_maps
from .planes import ParentSeries
from .presentation import presentation_states
from .production import MapToEncode, Production
from .quality_maps import quality_maps
from .registration import spatial_registration
from .report import measurement_report
from .segmentation import lesion_segmentation, lesion_segmentation_on_anatomy
from .summary import summary_page

__all__ = ["EncodedObject", "Kind", "check", "checked", "encode_study"]


def encode_study(result: SuperResolved, source: SourceStudy, rules: OutputRules) -> Iterator[EncodedObject]:
    """The objects of one study in the order of sending: images, pictures, maps, segmentations, reports.

    One at a time, so that a study never lies in memory twice. Series numbers are ``rules.base_series``
    + 0 anatomy, + 1… derived MR in the order of ``rules.mr_maps``, + 101… colour in the order of
    ``rules.fused_maps``, + 201… Parametric Maps in a fixed order of all maps, + 301 and + 302
    Segmentations, + 351 Spatial Registration, + 401 measurements, + 501 the summary, + 601… maps of
    uncertainty, + 701… measured quality, + 751… presentation
    states, + 801 key objects. UIDs follow from inputs, model and settings.
    Every map and segmentation lies on a parent series of ours: the anatomy; without it the map's own
    derived MR, or the first one made. Raises BadObject if a map has values that are not finite.
    """
    production = Production.of(result, source, rules)
    anatomy = anatomy_on_grid(result)
    parent: ParentSeries | None = None
    if anatomy is not None and rules.anatomy_parent:
        parent, instances = anatomy_series(production, anatomy)
        yield from instances

    of_map: dict[str, ParentSeries] = {}
    for place, m in _as_derived_mr(production, at_least_one=parent is None):
        of_map[m.name], instances = derived_mr_series(production, m, place)
        yield from instances

    default = parent or next(iter(of_map.values()))
    for place, m in _named(production, rules.fused_maps):
        yield from fused_series(production, m, place, anatomy, parent or of_map.get(m.name, default))

    if rules.summary:
        yield summary_page(production)

    for m in production.maps:
        if production.makes_map(m.name):
            yield parametric_map_of(production, m, parent or of_map.get(m.name, default))
    if rules.uncertainty_maps:
        yield from uncertainty_maps(production, default)
    if rules.quality_maps:
        yield from quality_maps(production)
    if rules.registration and (registered := spatial_registration(production)):
        yield registered
    if rules.segmentation and (found := lesion_segmentation(production, default)):
        yield found
    if rules.segmentation_on_anatomy and (found := lesion_segmentation_on_anatomy(production)):
        yield found
    if rules.measurements:
        yield measurement_report(production, default)
    if rules.presentation_states:
        for place, m in _named(production, rules.fused_maps):
            if m.name in of_map:
                under = None if anatomy is None or parent is None else (anatomy, parent)
                yield from presentation_states(production, m, place, of_map[m.name], under)
    if rules.key_objects and (chosen := key_objects(production)):
        yield chosen


def _as_derived_mr(production: Production, at_least_one: bool) -> list[tuple[int, MapToEncode]]:
    """Maps that become derived MR series, with their place in that block of series numbers."""
    wanted = production.rules.mr_maps
    return _named(production, wanted) or ([(len(wanted), production.maps[0])] if at_least_one else [])


def _named(production: Production, wanted: Sequence[str]) -> list[tuple[int, MapToEncode]]:
    """Those of ``wanted`` that there are, each with its place among them."""
    found = [(place, production.map_named(name)) for place, name in enumerate(wanted)]
    return [(place, m) for place, m in found if m is not None]
