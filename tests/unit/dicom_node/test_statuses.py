"""Storage statuses, read as PS3.4 B.2.3 and PS3.7 Annex C mean them."""

from __future__ import annotations

import pytest

from dicom_node.dispatch.statuses import Verdict, in_words, verdict


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0xB007, 0x0111, 0x0001, 0x0107, 0x0116])
def test_success_warnings_and_duplicates_are_taken(status):
    assert verdict(status) is Verdict.TAKEN


@pytest.mark.parametrize("status", [0xA700, 0xA701, 0xA7FF, 0x0110, 0x0213])
def test_what_may_pass_is_for_later(status):
    assert verdict(status) is Verdict.LATER


@pytest.mark.parametrize("status", [0xA900, 0xA9FF, 0xC000, 0xCFFF, 0x0122, 0x0124, 0x0117, 0xA800, 0xFE00])
def test_what_concerns_the_object_is_for_good(status):
    assert verdict(status) is Verdict.NEVER


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0x0122, "it does not support the SOP class"),
        (0x0124, "we are not authorised there"),
        (0xA712, "out of resources"),
        (0xA903, "data set does not match the SOP class"),
        (0xC211, "it cannot understand the object"),
        (0xB123, "stored with a warning"),
        (0x1234, "failure"),
    ],
)
def test_every_status_has_words_and_its_code(status, words):
    assert in_words(status) == f"{words} (status {status:04X})"
