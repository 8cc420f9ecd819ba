"""fsl_mrsi, MRSIPrep and LCModel: each is recognised, and every value keeps its place in the patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from dicom_node import layouts, ras
from dicom_node.errors import UnsuitableGeometry, UnsuitableInput
from dicom_node.process import identify_case, open_folder
from dicom_node.source import SourceStudy
from sr_core import Contrast, Grid, Metabolite, Unit
from tests import builders, research

MAPS = research.metabolites("tNAA", "tCho", "tCr", "2HG")


@pytest.fixture(scope="module")
def truth():
    return builders.acquisition("oblique", MAPS)


@pytest.fixture(scope="module")
def cases(truth, tmp_path_factory) -> dict[str, Path]:
    """The same study in every layout."""
    home = tmp_path_factory.mktemp("cases")
    research.fsl_mrsi(truth, home / "fsl")
    session = research.mrsiprep(truth, home / "bids")
    research.lcmodel(truth, home / "tables")
    research.lcmodel(truth, home / "csv", form="csv", geometry="dicom")
    return {
        "fsl_mrsi results": home / "fsl",
        "MRSIPrep session": session,
        "LCModel tables": home / "tables",
        "LCModel CSV": home / "csv",
    }


ALL = ["fsl_mrsi results", "MRSIPrep session", "LCModel tables", "LCModel CSV"]


def read(folder: Path) -> SourceStudy:
    return layouts.recognise(folder).study()


def at_the_same_place(values: np.ndarray, of: Grid, on: Grid) -> np.ndarray:
    """``values`` of one grid at the voxel centres of another, which are all among its own."""
    index = of.to_index(on.to_patient(np.stack(np.indices(on.shape), axis=-1)))
    np.testing.assert_allclose(index, np.round(index), atol=2e-3)
    return values[tuple(np.moveaxis(np.round(index).astype(int), -1, 0))]


@pytest.mark.parametrize("name", ALL)
def test_each_layout_is_recognised_and_gives_the_same_values_at_the_same_place(name, cases, truth):
    layout = layouts.recognise(cases[name])
    assert layout.name == name.replace("CSV", "tables")
    found = layout.study().acquisition
    kept = {m for m in MAPS if name != "MRSIPrep session" or m in research.BIDS}
    assert {m.metabolite for m in found.maps} == kept
    for m in found.maps:
        there = np.isfinite(m.values)
        assert there[:, 1:].all() and (name == "MRSIPrep session") == there[:, 0].all()
        original = truth.map_of(m.metabolite)
        expected = at_the_same_place(original.values, truth.grid, m.grid)
        np.testing.assert_allclose(m.values[there], expected[there], rtol=6e-3)
        np.testing.assert_allclose(m.crlb_percent[there], original.crlb_percent[there], rtol=1e-5)
    assert {a.contrast for a in found.anatomy} == set(Contrast)


def test_values_lie_where_an_independent_reader_has_them(cases):
    """SimpleITK's points of the files as stored, and our grid; LCModel counts along the template."""
    files = {
        "fsl_mrsi results": "fit_out/concs/molality/NAA+NAAG.nii.gz",
        "MRSIPrep session": "sub-S01_ses-V1_space-orig_met-NAANAAG_desc-signal_mrsi.nii.gz",
        "LCModel tables": "template.nii.gz",
    }
    for name, file in files.items():
        image = SimpleITK.ReadImage(str(cases[name] / file))
        m = read(cases[name]).acquisition.map_of(Metabolite.TNAA)
        for ijk in [(0, 1, 0), (8, 5, 5), (2, 7, 1)]:
            k, j, i = np.round(m.grid.to_index(image.TransformIndexToPhysicalPoint(ijk))).astype(int)
            if name == "LCModel tables":
                text = (
                    cases[name] / "lcm" / f"csi_sl{ijk[2] + 1}_{ijk[1] + 1}-{ijk[0] + 1}.table"
                ).read_text()
                line = next(x for x in text.splitlines() if x.endswith(" NAA+NAAG"))
                assert m.values[k, j, i] == pytest.approx(float(line.split()[0]), rel=1e-6)
            else:
                assert m.values[k, j, i] == pytest.approx(image.GetPixel(ijk), rel=1e-6)


def test_units_quality_and_roles_are_those_of_the_tool(cases, truth):
    fsl, bids, lcm = (read(cases[n]).acquisition for n in ALL[:3])
    assert {m.unit for m in fsl.maps} == {Unit.MMOL_PER_KG}
    assert {m.unit for m in (*bids.maps, *lcm.maps)} == {Unit.ARBITRARY}
    np.testing.assert_allclose(
        fsl.linewidth_ppm, 6.16 / research.FREQUENCY_MHZ, rtol=1e-5
    )  # NAA's, not Ins's
    np.testing.assert_allclose(bids.linewidth_ppm, 0.05, rtol=1e-5)
    np.testing.assert_allclose(lcm.linewidth_ppm[:, 1:], 0.05, rtol=1e-5)
    np.testing.assert_allclose(lcm.snr[:, 1:], 20.0)
    assert bids.brain_mask.all()
    rows = {d: (role, why) for _, d, role, why in layouts.recognise(cases["fsl_mrsi results"]).describe()}
    assert rows["fit_out/concs/molality/Scyllo.nii.gz"] == ("other", "no metabolite this node knows")
    assert rows["fit_out/qc/NAA_snr.nii.gz"][1] == "snr, that of NAA's peak"
    identified = identify_case(open_folder(cases["LCModel tables"]), None)
    assert {f.role for f in identified.findings} == {"metabolite_map", "quality_map", "t1", "flair", "other"}
    assert read(cases["MRSIPrep session"]).header.PatientID == "sub-S01"


def test_an_fsl_scaling_can_be_chosen_and_one_that_is_not_there_is_refused(truth, tmp_path):
    research.fsl_mrsi(truth, tmp_path / "c", scaling="internal")
    assert {m.unit for m in read(tmp_path / "c").acquisition.maps} == {Unit.ARBITRARY}
    (tmp_path / "c" / "case.toml").write_text('fsl_scaling = "molarity"\n')
    with pytest.raises(UnsuitableInput, match="only internal, raw"):
        read(tmp_path / "c")


def test_lcmodel_axes_say_how_voxels_were_counted(truth, tmp_path):
    research.lcmodel(truth, tmp_path / "c", form="csv")
    (tmp_path / "c" / "case.toml").write_text('lcmodel_axes = ["-k", "j", "-i"]\n')
    m = read(tmp_path / "c").acquisition.maps[0]
    turned = truth.map_of(m.metabolite).values[::-1, :, ::-1]
    turned = at_the_same_place(turned, truth.grid, m.grid)
    np.testing.assert_allclose(m.values[:, 1:], turned[:, 1:], rtol=1e-5)
    (tmp_path / "c" / "case.toml").write_text('lcmodel_axes = ["k", "i", "i"]\n')
    with pytest.raises(UnsuitableInput, match="each of i, j and k once"):
        read(tmp_path / "c")


def test_tables_without_geometry_or_on_another_grid_are_refused_saying_what_to_add(truth, tmp_path):
    research.lcmodel(truth, tmp_path / "c", form="csv")
    (tmp_path / "c" / "template.nii.gz").unlink()
    with pytest.raises(UnsuitableGeometry, match=r"template\.nii\.gz .*template_geometry"):
        read(tmp_path / "c")
    small = builders.grid("oblique", (2, 10, 9))
    ras.write(tmp_path / "c" / "template.nii", np.zeros(small.shape, np.float32), small)
    with pytest.raises(UnsuitableGeometry, match=r"slice 6, and template\.nii has 2"):
        read(tmp_path / "c")


def test_broken_tables_are_refused_naming_file_and_line(truth, tmp_path):
    out = research.lcmodel(truth, tmp_path / "c", form="csv")
    whole = (out / "csi.csv").read_text()
    (out / "csi.csv").write_text(whole[:-60])
    with pytest.raises(UnsuitableInput, match=r"csi\.csv line \d+ has \d+ of 15 columns"):
        read(tmp_path / "c")
    (out / "csi.csv").write_text(whole)
    (out / "csi_again.csv").write_text(whole)
    with pytest.raises(UnsuitableInput, match="are both of slice, row, column"):
        read(tmp_path / "c")
    (out / "csi_again.csv").unlink()
    (out / "csi_sl1_2-1.table").write_text(" LCModel (Version 6.3)\n $$ERRO\n")
    with pytest.raises(UnsuitableInput, match="no concentration table"):
        read(tmp_path / "c")
    (out / "csi_sl1_2-1.table").rename(out / "one.table")
    with pytest.raises(UnsuitableInput, match="does not say which voxel"):
        read(tmp_path / "c")


def test_a_real_table_and_csv_of_lcmodel_are_read_alike(tmp_path):
    """Lines as LCModel 6.3-1B wrote them: a name with a sign, a sum, a value without detection."""
    (tmp_path / "a_sl2_3-4.table").write_text(REAL_TABLE)
    (tmp_path / "b_sl2_3-4.csv").write_text(REAL_CSV)
    ((index, voxel),) = layouts.lcmodel.read_voxels(tmp_path / "a_sl2_3-4.table")
    ((again, same),) = layouts.lcmodel.read_voxels(tmp_path / "b_sl2_3-4.csv")
    assert index == again == (2, 3, 4)
    assert voxel.concentrations == same.concentrations
    assert voxel.concentrations["GPC+PCh"] == (0.115, 2.0)
    assert (voxel.fwhm_ppm, voxel.snr) == (0.043, 13.0)


REAL_TABLE = """ LCModel (Version 6.3-1B)

$$CONC  6 lines in following concentration table = NCONC+1
    Conc.  %SD /Cr+PCr  Metabolite
 2.88E-02  88%   0.115 2HG
    0.000 999%   0.000 PCh
 6.78E-02  16%   0.271 -CrCH2
    0.115   2%   0.457 GPC+PCh
    0.357  17%   1.426 MM14+Lip13a+Lip13b+MM12

$$MISC  6 lines in following misc. output table
  FWHM = 0.043 ppm    S/N =  13

$$DIAG  2 lines in following diagnostic table:
"""
REAL_CSV = (
    "Row, Col, 2HG, 2HG %SD, 2HG/Cr+PCr, PCh, PCh %SD, PCh/Cr+PCr, -CrCH2, -CrCH2 %SD, -CrCH2/Cr+PCr, "
    "GPC+PCh, GPC+PCh %SD, GPC+PCh/Cr+PCr, MM14+Lip13a+Lip13b+MM12, "
    "MM14+Lip13a+Lip13b+MM12 %SD, MM14/Cr+PCr\n"
    "  1,   1, 2.88E-02,   88,    0.115,    0.000,  999,    0.000, 6.78E-02,   16,    0.271,    0.115,    2,"
    "    0.457,    0.357,   17,    1.426\n"
)


def test_several_sessions_or_resampled_maps_only_are_refused(truth, tmp_path):
    first = research.mrsiprep(truth, tmp_path)
    research.mrsiprep(truth, tmp_path, session="V2")
    with pytest.raises(UnsuitableInput, match="2 sessions"):
        read(first.parent)
    for path in first.glob("*_space-orig_*"):
        path.rename(path.with_name(path.name.replace("space-orig", "space-mni")))
    with pytest.raises(UnsuitableInput, match="in other spaces only"):
        read(first)
