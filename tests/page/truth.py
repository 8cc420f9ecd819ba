"""What the viewer must say of a study, read from its objects by highdicom and from its maps by the node."""

from __future__ import annotations

from typing import Any

import highdicom as hd
import numpy as np

from dicom_node.config import IdentifyRules
from dicom_node.process import Case, decode_case, identify_case
from dicom_node.spool import Spool
from dicom_node.store import Store
from sr_core import Metabolite

_MAPS = ("tNAA", "2HG", "Glu")


def truth_of(store: Store, spool: Spool, case: str) -> dict[str, Any]:
    """``truth``: maps at points (LPS mm); ``outlined``: a map with a lesion, or ""; ``dropped``: files."""
    results = store.newest_results(case)
    assert results is not None
    files = {m.name: spool.path(m.path) for m in results.made if m.sop_uid}
    source = Case({m.sop_uid: spool.path(m.path) for m in store.members(results.key)})
    identified = identify_case(source, IdentifyRules())
    low = decode_case(source, identified, IdentifyRules()).acquisition
    truth = []
    for place, name in enumerate(_MAPS):
        volume = hd.imread(files[f"PM_{name}"]).get_volume(apply_real_world_transform=True)
        measured = low.map_of(Metabolite(name))
        assert measured is not None
        index = tuple((n * (place + 1) // 5) // 4 * 4 for n in volume.array.shape)
        point = (volume.affine @ [*index, 1.0])[:3]
        coarse = tuple(np.rint(measured.grid.to_index(point)).astype(int))
        truth.append(
            {
                "map": name,
                "point": [round(float(x), 3) for x in point],
                "resolved": float(volume.array[index]),
                "measured": float(measured.values[coarse]),
            }
        )
    labels = []
    if "SEG_lesion" in files:
        labels = [str(s.SegmentLabel) for s in hd.seg.segread(files["SEG_lesion"]).SegmentSequence]
    outlined = next((x.removeprefix("Metabolic lesion ") for x in labels if x.startswith("Metabolic")), "")
    naa = next(s for s in identified.series if any(p.metabolite == "tNAA" for p in s.parts))
    dropped = [str(source.instances[uid]) for p in naa.parts for uid in p.sop_uids]
    return {"truth": truth, "outlined": outlined, "dropped": dropped}
