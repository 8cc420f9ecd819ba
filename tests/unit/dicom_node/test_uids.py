"""Result UIDs: derived from what went in."""

from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from dicom_node.uids import result_uid


def test_the_same_inputs_name_the_same_object_on_every_machine():
    """A value once given out must never change: a re-send would become a second object in the PACS."""
    assert result_uid("series PM HGG", "1.2.3", "model") == "2.25.330092577575131807931767113270391004807"


@given(st.text(), st.lists(st.text(), max_size=4))
def test_any_words_make_a_valid_uid(role, parts):
    uid = UID(result_uid(role, *parts))
    assert uid.is_valid and len(uid) <= 64


def test_role_parts_and_their_boundaries_all_count():
    uids = [
        result_uid("a", "b"),
        result_uid("b", "a"),
        result_uid("a", "b", ""),
        result_uid("ab"),
        result_uid("a", "bc", "d"),
        result_uid("a", "b", "cd"),
    ]
    assert len(set(uids)) == len(uids)
