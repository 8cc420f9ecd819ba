"""A reading study is blinded, repeatable and complete, and its analysis recovers what readers said."""

from __future__ import annotations

import base64
import csv
import io
import itertools
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from matplotlib import image as png
from scipy import stats

from sr_core.evaluate.reading import __main__ as command
from sr_core.evaluate.reading.agreement import category_counts, fleiss_kappa, icc2
from sr_core.evaluate.reading.analysis import MOS, between, compare, first_scores, opinion, within
from sr_core.evaluate.reading.answers import Reading, read_answers
from sr_core.evaluate.reading.cases import Case, read_cases
from sr_core.evaluate.reading.form import prepare
from sr_core.evaluate.reading.pictures import pictures
from sr_core.evaluate.reading.report import findings, markdown, write
from sr_core.evaluate.reading.study import (
    CRITERIA,
    CaseRecord,
    Key,
    ReadingError,
    criteria_of,
    plan,
    read_key,
)

METHODS = ("bicubic", "unet2+fnlm+dc", "wtv+fnlm")
Score = Callable[[int, str, str, str, bool], int]  # reader, case, method, criterion, again


# Cases.


def folder_of_png(folder: Path, seed: int) -> Path:
    """One case whose files say by name, and by PNG text, which method made them."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for name in ("reference", *METHODS):
        text = {"Title": f"made by {name}", "Source": str(folder)}
        png.imsave(folder / f"{name}.png", rng.random((12, 10, 3)), metadata=text)
    png.imsave(folder / "lr.png", rng.random((3, 3, 3)))
    return folder


@pytest.fixture
def cases(tmp_path) -> tuple[Case, ...]:
    patients = [folder_of_png(tmp_path / "src" / f"patient-Smith-{n}", n) for n in range(3)]
    return read_cases(patients, [folder_of_png(tmp_path / "src" / "volunteer-Jones", 9)])


def key_of(healthy: dict[str, bool], methods: tuple[str, ...] = METHODS, readers: int = 3) -> Key:
    return plan([CaseRecord(n, h, None, {}) for n, h in healthy.items()], methods, 1, readers, "gray")


def test_a_folder_and_a_list_in_toml_name_the_same_cases(tmp_path, cases):
    lines = []
    for c in cases:
        lines += ["[[case]]", f'name = "{c.name}"', f"healthy = {str(c.healthy).lower()}"]
        lines += [f'{r} = "src/{c.name}/{r}.png"' for r in ("reference", "lr")]
        methods = ", ".join(f'"{m}" = "src/{c.name}/{m}.png"' for m in METHODS)
        lines.append(f"methods = {{ {methods} }}")
    (tmp_path / "cases.toml").write_text("\n".join(lines))
    assert read_cases([tmp_path / "cases.toml"], []) == cases
    assert [c.healthy for c in cases] == [False, False, False, True]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "reference.png").unlink(), "lacks the ground truth"),
        (lambda f: (f / "bicubic.png").unlink(), "lacks bicubic"),
        (lambda f: (f / "notes.txt").write_text("x"), "neither PNG nor NIfTI"),
        (lambda f: (f / "bicubic.nii").write_text("x"), "holds bicubic twice"),
    ],
)
def test_a_folder_that_makes_no_case_says_why(tmp_path, spoil, words):
    first, second = (folder_of_png(tmp_path / n, 0) for n in "ab")
    spoil(second)
    with pytest.raises(ReadingError, match=words):
        read_cases([first, second], [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[case]]\nname = 'a'\nplain = 3", "no key plain"),
        ("[[case]]\nname = 'a'", "needs name, reference and methods"),
        ("[[cases]]", "holds tables"),
        ("[[case]]\nname = 'a'\nreference = 'r.png'\nmethods = { tv = 'x.png' }", "no file"),
        ("not toml", "neither a folder nor a list"),
    ],
)
def test_a_mistake_in_a_list_is_named(tmp_path, text, words):
    (tmp_path / "cases.toml").write_text(text)
    with pytest.raises(ReadingError, match=words):
        read_cases([tmp_path / "cases.toml"], [])


def test_two_cases_of_one_name_are_refused(tmp_path):
    one, other = (folder_of_png(tmp_path / n / "case", 0) for n in "ab")
    with pytest.raises(ReadingError, match="two cases of one name: case"):
        read_cases([one], [other])


# Order.


def test_every_reader_scores_everything_once_and_a_tenth_twice_late():
    key = key_of({f"case {n}": False for n in range(10)})
    pairs = set(itertools.product((c.name for c in key.cases), METHODS))
    for form in key.forms:
        first = [i for i in form.items if i.repeats is None]
        again = [i for i in form.items if i.repeats is not None]
        assert {(i.case, i.method) for i in first} == pairs and len(first) == 30
        assert [i.item for i in form.items] == list(range(1, 34))
        assert len(again) == 3
        for i in again:
            seen = form.items[i.repeats - 1]
            assert (seen.case, seen.method, seen.repeats) == (i.case, i.method, None)
            assert i.repeats <= 11 and i.item > 20


def test_no_place_in_the_order_tells_the_method():
    """Over many readers each method comes as early as the others: mean places within 4 SE of the middle."""
    key = key_of({f"case {n}": False for n in range(4)}, readers=300)
    for method in METHODS:
        places = [i.item for f in key.forms for i in f.items if i.method == method and i.repeats is None]
        middle = np.mean([i.item for f in key.forms for i in f.items if i.repeats is None])
        assert abs(np.mean(places) - middle) < 4 * np.std(places) / np.sqrt(len(places))


def test_orders_differ_by_reader_and_seed_and_repeat_by_seed():
    records = [CaseRecord(f"case {n}", False, None, {}) for n in range(5)]
    key = plan(records, METHODS, 1, 3, "gray")
    assert key == plan(records, METHODS, 1, 3, "gray")
    orders = [tuple((i.case, i.method) for i in f.items) for f in key.forms]
    orders += [tuple((i.case, i.method) for i in f.items) for f in plan(records, METHODS, 2, 3, "gray").forms]
    assert len(set(orders)) == 6
    assert len({f.form for f in key.forms}) == 3


def test_a_study_of_nothing_is_refused():
    with pytest.raises(ReadingError, match="at least one case"):
        plan([], METHODS, 1, 3, "gray")
    with pytest.raises(ReadingError, match="one reader"):
        key_of({"a": False}, readers=0)


# What readers get.


def content_of(page: Path) -> dict:
    found = re.search(
        r'<script type="application/json" id="form">(.*?)</script>', page.read_text(), re.DOTALL
    )
    assert found
    return json.loads(found[1])


def decoded(uri: str) -> bytes:
    assert uri.startswith("data:image/png;base64,")
    return base64.b64decode(uri.split(",")[1])


def test_no_byte_that_a_reader_gets_names_a_method_a_case_or_a_file(tmp_path, cases):
    out = tmp_path / "study"
    prepare(cases, out, seed=5, readers=2, colours="gray")
    secrets = [m.encode() for m in (*METHODS, "unet2", "fnlm", "patient", "Smith", "volunteer", "Jones")]
    secrets += [b"src/", b".nii", b"matplotlib"]
    for folder in (out / "reader-1", out / "reader-2"):
        files = [p for p in folder.rglob("*") if p.is_file()]
        assert [p.name for p in files] == ["reading.html"]
        content = content_of(files[0])
        embedded = [i["image"] for i in content["items"]]
        embedded += [c[k] for c in content["cases"] for k in ("reference", "lr")]
        pictured = b"".join(map(decoded, embedded))
        assert set(re.findall(rb"tEXt|iTXt|zTXt|tIME|eXIf", pictured)) == set()
        for secret in secrets:
            assert secret.lower() not in files[0].read_bytes().lower()
            assert secret.lower() not in pictured.lower()
        assert set(content["items"][0]) == {"case", "image"}
        assert set(content["cases"][0]) == {"reference", "lr", "aspect", "criteria"}


def test_the_page_asks_nothing_of_the_network(tmp_path, cases):
    prepare(cases, tmp_path / "study", seed=5, readers=1, colours="gray")
    text = (tmp_path / "study" / "reader-1" / "reading.html").read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|<link|src=\"(?!data:)|@import|url\(", text)


def test_the_key_tells_which_method_made_each_image(tmp_path, cases):
    key = prepare(cases, tmp_path / "study", seed=5, readers=2, colours="gray")
    assert read_key(tmp_path / "study" / "key.json") == key
    by_name = {c.name: c for c in cases}
    for form in key.forms:
        content = content_of(tmp_path / "study" / f"reader-{form.reader}" / "reading.html")
        assert (content["reader"], content["form"], content["study"]) == (form.reader, form.form, key.study)
        for item, shown in zip(form.items, content["items"], strict=True):
            case = by_name[item.case]
            for uri, source in (
                (shown["image"], case.methods[item.method]),
                (content["cases"][shown["case"]]["reference"], case.reference),
                (content["cases"][shown["case"]]["lr"], case.lr),
            ):
                there = png.imread(io.BytesIO(decoded(uri)))[..., :3]
                np.testing.assert_array_equal(there, png.imread(source)[..., :3])


def test_healthy_cases_are_not_asked_about_a_tumor(tmp_path, cases):
    key = prepare(cases, tmp_path / "study", seed=5, readers=1, colours="gray")
    content = content_of(tmp_path / "study" / "reader-1" / "reading.html")
    for item, shown in zip(key.forms[0].items, content["items"], strict=True):
        asked = content["cases"][shown["case"]]["criteria"]
        assert asked == [c.name for c in CRITERIA if not c.of_tumor or item.case != "volunteer-Jones"]
    assert list(content["criteria"].values()) == [c.words for c in CRITERIA]
    assert (content["lowest"], content["highest"]) == (1, 5)


def test_the_same_seed_gives_the_same_bytes(tmp_path, cases):
    made = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        prepare(cases, tmp_path / name, seed=seed, readers=2, colours="gray")
        made.append([p.read_bytes() for p in sorted((tmp_path / name).rglob("*")) if p.is_file()])
    assert made[0] == made[1] and len(made[0]) == 3
    assert all(x != y for x, y in zip(made[0], made[2], strict=True))


def test_a_key_is_private_and_never_replaced(tmp_path, cases):
    prepare(cases, tmp_path / "study", seed=5, readers=1, colours="gray")
    path = tmp_path / "study" / "key.json"
    assert path.stat().st_mode & 0o077 == 0
    before = path.read_bytes()
    with pytest.raises(ReadingError, match="exists"):
        prepare(cases, tmp_path / "study", seed=6, readers=1, colours="gray")
    assert path.read_bytes() == before
    with pytest.raises(ReadingError, match="no colour map 'gren'"):
        prepare(cases, tmp_path / "other", seed=6, readers=1, colours="gren")


def test_images_of_another_size_are_refused(tmp_path):
    folder = folder_of_png(tmp_path / "case", 0)
    png.imsave(folder / "bicubic.png", np.zeros((11, 10, 3)))
    (case,) = read_cases([folder], [])
    with pytest.raises(ReadingError, match="bicubic has"):
        pictures(case, "gray")


# Volumes.


def save_nifti(path: Path, values: np.ndarray, spacing: float, axes: str = "RAS") -> None:
    """``values`` (to the right, to the front, to the head), first voxel at 0, stored along ``axes``."""
    image = nibabel.Nifti1Image(values.astype(np.float32), np.diag([spacing, spacing, spacing, 1]))
    wanted = nibabel.orientations.axcodes2ornt(axes)
    nibabel.save(image.as_reoriented(wanted), path)


@pytest.fixture
def volumes(tmp_path) -> Path:
    """Dark brain, bright spot front right; the lesion mask is largest in plane 5."""
    folder = tmp_path / "patient"
    folder.mkdir()
    truth = np.zeros((24, 32, 8))
    truth[6:18, 8:24] = 0.5
    truth[14:18, 20:24] = 1.0
    save_nifti(folder / "reference.nii.gz", truth, 1.0)
    save_nifti(folder / "bicubic.nii.gz", truth / 2, 1.0, axes="PSL")
    measured = truth[::4, ::4, ::4].copy()
    measured[2, 2] = np.nan  # missing
    save_nifti(folder / "lr.nii.gz", measured, 4.0, axes="LPS")
    lesion = np.zeros(truth.shape)
    lesion[14:18, 20:24, 5], lesion[14:16, 20:24, 6] = 1, 1
    save_nifti(folder / "lesion.nii.gz", lesion, 1.0)
    return folder


def grey(picture: bytes) -> np.ndarray:
    return np.rint(png.imread(io.BytesIO(picture))[..., 0] * 255)


def test_a_volume_is_shown_in_its_lesions_plane_as_radiologists_look_at_it(volumes):
    """The front is up, the patient's right is left, however files store it; colours are the reference's."""
    (case,) = read_cases([volumes], [])
    shown = pictures(case, "gray")
    assert shown.plane == 5
    reference = grey(shown.reference)
    rows, columns = 16 + 12, 12 + 12
    assert reference.shape == (rows, columns) and shown.aspect == pytest.approx(columns / rows)
    expected = np.zeros((rows, columns))
    expected[6:22, 6:18] = 128
    expected[6:10, 6:10] = 255
    assert np.abs(reference - expected).max() <= 1
    assert np.abs(grey(shown.methods["bicubic"]) - expected / 2).max() <= 1
    assert shown.lr is not None
    blocks = grey(shown.lr)
    assert blocks.shape == reference.shape and set(np.unique(blocks)) <= {0, 127, 128, 255}
    assert (blocks > 200).sum() == 16  # one LR voxel
    assert (blocks[20:24, 14:18] == 0).all() and (blocks > 0).sum() == 16 * 11


def test_without_a_mask_a_tumor_needs_a_plane_and_a_healthy_brain_its_middle(volumes):
    (volumes / "lesion.nii.gz").unlink()
    (case,) = read_cases([volumes], [])
    with pytest.raises(ReadingError, match="which plane shows the tumor"):
        pictures(case, "gray")
    assert pictures(replace(case, plane=2), "gray").plane == 2
    assert pictures(replace(case, healthy=True), "gray").plane == 4
    with pytest.raises(ReadingError, match="no plane 8"):
        pictures(replace(case, plane=8), "gray")


def test_a_volume_off_the_references_grid_is_refused(volumes):
    save_nifti(volumes / "bicubic.nii.gz", np.ones((24, 32, 8)), 1.01)
    (case,) = read_cases([volumes], [])
    with pytest.raises(ReadingError, match="bicubic is not on the reference's grid"):
        pictures(case, "gray")


# Answers.


def answered(key: Key, score: Score, folder: Path) -> list[Path]:
    """What each reader's page would save."""
    paths = []
    for form in key.forms:
        answers = [
            {
                "item": i.item,
                "scores": {
                    c.name: score(form.reader, i.case, i.method, c.name, i.repeats is not None)
                    for c in criteria_of(key.is_healthy(i.case))
                },
            }
            for i in form.items
        ]
        table = {"study": key.study, "reader": form.reader, "form": form.form, "answers": answers}
        paths.append(folder / f"answers-reader-{form.reader}.json")
        paths[-1].write_text(json.dumps(table))
    return paths


def three(*_: object) -> int:
    return 3


def drop_a_score(table: dict) -> None:
    del table["answers"][3]["scores"]["landmarks"]


def drop_an_item(table: dict) -> None:
    del table["answers"][4]


def add_an_item(table: dict) -> None:
    table["answers"].append({"item": 99, "scores": {}})


def double_an_item(table: dict) -> None:
    table["answers"].append(table["answers"][0])


def score_six(table: dict) -> None:
    table["answers"][0]["scores"]["landmarks"] = 6


def score_half(table: dict) -> None:
    table["answers"][0]["scores"]["landmarks"] = 3.5


def ask_more(table: dict) -> None:
    table["answers"][0]["scores"]["beauty"] = 3


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (drop_a_score, "item 4 lacks landmarks"),
        (drop_an_item, "item 5 lacks tumor_boundaries, tumor_texture, landmarks, healthy_texture"),
        (add_an_item, "the form has no item 99"),
        (double_an_item, "item 1 comes twice"),
        (score_six, "item 1: landmarks is 6, not a whole number from 1 to 5"),
        (score_half, "landmarks is 3.5"),
        (ask_more, "beauty was not asked for"),
        (lambda t: t.update(study="other"), "answers of study other"),
        (lambda t: t.update(reader=7), "no reader 7"),
        (lambda t: t.update(reader=1), "another reader's form"),
        (lambda t: t.pop("answers"), "not the answers that a form saves"),
    ],
)
def test_answers_that_are_not_whole_are_refused_by_name(tmp_path, spoil, words):
    key = key_of({"a": False, "b": False})
    paths = answered(key, three, tmp_path)
    assert len(read_answers(key, paths)) == 3 * 7 * 4
    table = json.loads(paths[1].read_text())
    spoil(table)
    paths[1].write_text(json.dumps(table))
    with pytest.raises(ReadingError, match=words) as caught:
        read_answers(key, paths)
    assert "answers-reader-2.json" in str(caught.value)


def test_every_reader_answers_once(tmp_path):
    key = key_of({"a": False})
    one, two, last = answered(key, three, tmp_path)
    with pytest.raises(ReadingError, match="reader 3 has no file"):
        read_answers(key, [one, two])
    with pytest.raises(ReadingError, match="reader 1 has answered in"):
        read_answers(key, [one, one, two, last])
    with pytest.raises(ReadingError, match="no answers can be read"):
        read_answers(key, [one, two, last, tmp_path / "none.json"])


def test_what_is_no_key_is_refused(tmp_path):
    (tmp_path / "key.json").write_text('{"study": "x"}')
    with pytest.raises(ReadingError, match="not the key"):
        read_key(tmp_path / "key.json")


# Analysis.

QUALITY = {"bicubic": 2, "unet2+fnlm+dc": 4, "wtv+fnlm": 3}
HEALTHY = {**{f"patient {n}": False for n in range(6)}, **{f"volunteer {n}": True for n in range(2)}}


def by_quality(reader: int, case: str, method: str, criterion: str, again: bool) -> int:
    """Reader 3 is strict on texture, the second look finds one point more, and patient 0 is easy."""
    strict = reader == 3 and criterion == "healthy_texture"
    return min(5, QUALITY[method] - strict + again + (case == "patient 0"))


@pytest.fixture
def study(tmp_path) -> tuple[Key, tuple[Reading, ...]]:
    key = key_of(HEALTHY)
    return key, read_answers(key, answered(key, by_quality, tmp_path))


def test_mean_opinion_scores_are_those_given(study):
    """By hand: of healthy texture a reader in three gives one point less; patient 0 adds 1 in 8 cases."""
    scores = first_scores(*study)
    for method, quality in QUALITY.items():
        landmarks = opinion(scores, "landmarks", method)
        assert landmarks.mean == pytest.approx(quality + 1 / 8) and landmarks.n == 8
        boundaries = opinion(scores, "tumor_boundaries", method)
        assert boundaries.mean == pytest.approx(quality + 1 / 6) and boundaries.n == 6
        texture = opinion(scores, "healthy_texture", method)
        assert texture.mean == pytest.approx(quality + 1 / 8 - 1 / 3)
        whole = opinion(scores, MOS, method)
        strict = (6 * 1 / 12 + 2 * 1 / 6) / 8  # one of four criteria in patients, of two in volunteers
        assert whole.mean == pytest.approx(quality + 1 / 8 - strict)
        assert whole.low < whole.mean < whole.high < whole.mean + 1
    assert scores.of(["patient 0"]).column(MOS).shape == (1, 3, 3)


def test_comparisons_are_paired_by_case_and_adjusted(study):
    scores = first_scores(*study)
    found = compare(scores, MOS, ["bicubic"])
    assert [(c.method, c.baseline) for c in found] == [("unet2+fnlm+dc", "bicubic"), ("wtv+fnlm", "bicubic")]
    means = scores.column(MOS).mean(axis=2)
    for c, gain in zip(found, (2.0, 1.0), strict=True):
        x, y = (means[:, METHODS.index(m)] for m in (c.method, c.baseline))
        assert (c.difference.mean, c.difference.low, c.difference.high) == pytest.approx((gain, gain, gain))
        assert c.p == pytest.approx(stats.wilcoxon(x - y).pvalue) and c.p < 0.01
        assert c.p_holm == pytest.approx(2 * c.p)
        assert c.p_mann_whitney == pytest.approx(stats.mannwhitneyu(x, y).pvalue)
    with pytest.raises(ReadingError, match="no method nearest was read; there is bicubic"):
        compare(scores, MOS, ["nearest"])


def test_few_cases_are_not_tested(tmp_path):
    key = key_of({"a": False, "b": False})
    scores = first_scores(key, read_answers(key, answered(key, by_quality, tmp_path)))
    found = compare(scores, MOS, ["bicubic"])[0]
    assert found.p is None and found.p_holm is None and found.difference.mean == pytest.approx(2.0)


def test_a_second_look_counts_for_the_reader_alone(study):
    key, readings = study
    for w in within(key, readings):
        assert w.images == 2 and w.mean_difference == pytest.approx(1.0)
        assert (w.exact, w.close) == (0.0, 1.0)
    untouched = [r for r in readings if not r.again]
    np.testing.assert_array_equal(first_scores(key, readings).values, first_scores(key, untouched).values)


def test_readers_who_say_the_same_agree_perfectly_and_random_ones_do_not(tmp_path):
    key = key_of(HEALTHY)
    same = first_scores(key, read_answers(key, answered(key, lambda r, c, m, q, a: QUALITY[m], tmp_path)))
    rng = np.random.default_rng(3)
    noise = answered(key, lambda *_: int(rng.integers(1, 6)), tmp_path)
    random = first_scores(key, read_answers(key, noise))
    for column in (MOS, "tumor_texture"):
        assert between(same, column).icc_average == pytest.approx((1, 1, 1))
        assert abs(between(random, column).icc_single[0]) < 0.35
    kappa = between(same, "landmarks").kappa
    assert kappa == pytest.approx((1, 1, 1)) and np.isnan(between(same, MOS).kappa[0])
    low, high = between(random, "landmarks").kappa[1:]
    assert low < 0.05 and high > -0.05


def test_the_intraclass_correlation_is_that_of_shrout_and_fleiss():
    """Psychol Bull 86:420 (1979), Table 2: 6 targets, 4 judges; ICC(2,1) = .29, ICC(2,4) = .62."""
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    found = icc2(ratings)
    assert (round(found.single, 2), round(found.average, 2)) == (0.29, 0.62)
    assert np.isnan(icc2([[3, 3], [3, 3]]).single) and np.isnan(icc2([[3, 4]]).single)


def test_kappa_is_that_of_fleiss():
    """Psychol Bull 76:378 (1971), Table 1: 30 patients, 6 psychiatrists, 5 diagnoses; κ = .430."""
    table = """00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
               00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006"""
    counts = np.array([[int(n) for n in row] for row in table.split()])
    assert np.round(counts.sum(axis=0) / 180, 3).tolist() == [0.144, 0.144, 0.167, 0.306, 0.239]
    assert round(fleiss_kappa(counts), 3) == 0.430
    assert np.isnan(fleiss_kappa([[0, 3], [0, 3]])) and np.isnan(fleiss_kappa([[1, 0], [0, 1]]))
    assert category_counts(np.array([[1, 5, 5]]), 1, 5).tolist() == [[1, 0, 0, 0, 2]]


def test_the_report_says_all_this_and_the_csv_the_same(tmp_path, study):
    key, readings = study
    found = findings(key, readings, ["bicubic"])
    text = markdown(found, key, {"commit": "abc"})
    write(found, readings, text, tmp_path / "report")
    assert (tmp_path / "report" / "reading.md").read_text() == text
    assert "8 cases (6 with tumor, 2 healthy), 3 methods, 3 readers" in text and "- commit: abc" in text
    assert "| MOS | unet2+fnlm+dc | bicubic | +2.00 [+2.00, +2.00] | 0.00781 | 0.0156 |" in text
    assert "Mann–Whitney p (as in the paper)" in text and "Fleiss' kappa" in text
    rows = {}
    for name in ("mos", "comparisons", "agreement", "readings"):
        with (tmp_path / "report" / f"{name}.csv").open() as f:
            rows[name] = list(csv.DictReader(f))
    assert len(rows["readings"]) == len(readings) and rows["readings"][0]["method"] in METHODS
    (mos,) = [r for r in rows["mos"] if (r["column"], r["method"]) == (MOS, "bicubic")]
    assert float(mos["mean"]) == found.opinions[MOS, "bicubic"].mean
    assert float(rows["comparisons"][0]["mean"]) == pytest.approx(2.0)
    assert float(rows["agreement"][1]["kappa_low"]) == pytest.approx(found.agreement[1].kappa[1])


def test_a_study_of_healthy_subjects_alone_has_no_tumor_scores(tmp_path):
    key = key_of({"a": True, "b": True})
    readings = read_answers(key, answered(key, by_quality, tmp_path))
    found = findings(key, readings, ["bicubic"])
    assert opinion(found.scores, "tumor_texture", "bicubic").n == 0
    assert "| bicubic | 1.83 [1.83, 1.83] | – | – | 2.00 [2.00, 2.00] | 1.67 [1.67, 1.67] |" in markdown(
        found, key, {}
    )


def test_the_commands_run_a_study_from_end_to_end(tmp_path, monkeypatch, capsys):
    folders = [str(folder_of_png(tmp_path / f"case {n}", n)) for n in range(2)]
    out = tmp_path / "study"

    def run(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["reading", *words])
        command.main()

    prepared = ("prepare", "--cases", folders[0], "--healthy", folders[1], "--out", str(out), "--seed", "3")
    run(*prepared)
    assert f"for you alone: {out / 'key.json'}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        run(*prepared)
    assert ended.value.code == 2 and "exists" in capsys.readouterr().err

    key = read_key(out / "key.json")
    answers = [str(p) for p in answered(key, by_quality, tmp_path)]
    run("analyse", "--key", str(out / "key.json"), *answers, "--out", str(tmp_path / "report"))
    assert "# Reading study" in capsys.readouterr().out
    assert (tmp_path / "report" / "reading.md").read_text().count("sha256") == 3
    with pytest.raises(SystemExit) as ended:
        run("analyse", "--key", str(out / "key.json"), answers[0], "--out", str(tmp_path / "report"))
    assert ended.value.code == 2 and "reader 2 has no file" in capsys.readouterr().err
