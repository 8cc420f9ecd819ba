"""Coded concepts of maps, units and findings."""

import pytest
from pydicom.sr.codedict import codes as standard

from dicom_node import codes
from sr_core import Metabolite, Ratio, Unit


@pytest.mark.parametrize("of", [*Metabolite, *Ratio])
def test_every_map_has_a_quantity_of_its_own_kind(of):
    code = codes.quantity(of)
    assert 0 < len(code.value) <= 16 and 0 < len(code.meaning) <= 64
    assert code.scheme_designator in {"SCT", "DCM", codes.PUBCHEM, codes.SCHEME}


@pytest.mark.parametrize("of", Unit)
def test_every_unit_is_its_ucum_spelling(of):
    assert codes.unit(of).value == of and codes.unit(of).scheme_designator == "UCUM"


@pytest.mark.parametrize(
    ("of", "concept"),
    [
        (Metabolite.TNAA, standard.cid4033.NAcetylaspartate),
        (Metabolite.TCHO, standard.cid4033.Choline),
        (Metabolite.TCR, standard.cid4033.Creatine),
        (Metabolite.INS, standard.cid4033.Inositol),
        (Metabolite.GLN, standard.cid4033.Glutamine),
        (Metabolite.GLX, standard.cid4033.GlutamateAndGlutamine),
        (Metabolite.LAC, standard.cid4033.Lactate),
        (Metabolite.LIP, standard.cid4033.Lipid),
        (Metabolite.TAU, standard.cid4033.Tuarine),
    ],
)
def test_what_the_standard_codes_is_coded_as_the_standard_does(of, concept):
    ours = codes.quantity(of)
    assert (ours.value, ours.scheme_designator) == (concept.value, concept.scheme_designator)


def test_choline_over_naa_is_not_coded_as_naa_over_choline():
    """The standard has only the inverse ratio (113083): its code on our values would invert the finding."""
    inverse = standard.cid4033.NAcetylaspartateCholineRatio
    assert codes.quantity(Ratio.TCN).value != inverse.value
    assert codes.quantity(Ratio.TCN).scheme_designator == codes.SCHEME


def test_single_metabolites_without_a_standard_code_do_not_share_one():
    alone = [Metabolite.GLU, Metabolite.HG2, Metabolite.GSH, Metabolite.GABA, Metabolite.GLY, Metabolite.NAAG]
    assert len({codes.quantity(m).value for m in alone}) == len(alone)


@pytest.mark.parametrize(
    ("ours", "concept"),
    [
        (codes.METABOLITE_MAPS_FROM_SPECTROSCOPY, standard.DCM.MetaboliteMapsFromSpectroscopyData),
        (codes.SOURCE_IMAGE, standard.DCM.SourceImageForImageProcessingOperation),
        (codes.SOURCE_FOR_SEGMENTATION, standard.DCM.SourceImageForSegmentation),
        (codes.SPATIAL_RESAMPLING, standard.DCM.SpatialResampling),
        (codes.SEGMENTATION, standard.cid7203.SegmentationImageDerivation),
        (codes.ACQUISITION_EQUIPMENT, standard.DCM.AcquisitionEquipment),
        (codes.ARTIFICIAL_INTELLIGENCE, standard.cid7162.ArtificialIntelligence),
        (codes.HISTOGRAM_ANALYSIS, standard.cid7162.HistogramAnalysis),
        (codes.ABNORMAL_STRUCTURE, standard.cid7150.MorphologicallyAbnormalStructure),
        (codes.SPATIAL_CONCEPT, standard.cid7150.SpatialAndRelationalConcept),
        (codes.BRAIN, standard.SCT.Brain),
    ],
)
def test_concepts_are_those_of_the_standards_tables(ours, concept):
    assert (ours.value, ours.scheme_designator) == (concept.value, concept.scheme_designator)


def test_a_reader_is_told_whose_the_unusual_schemes_are():
    assert {s.CodingSchemeDesignator for s in codes.schemes()} == {codes.SCHEME, codes.PUBCHEM}
