"""How values become 16-bit stored values that a person can divide."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.encode.derived_mr import decimal_scale, ratio_scale, scale_words, stored_values


@pytest.mark.parametrize(
    ("highest", "scale"),
    [
        (3.0, 1000),
        (12.5, 1000),
        (65.535, 1000),
        (65.6, 100),
        (900, 10),
        (5e5, 0.1),
        (0.5, 100000),
        (0.0, 1000),
    ],
)
def test_the_scale_is_a_thousand_where_that_fits_and_resolves(highest, scale):
    assert decimal_scale(highest) == pytest.approx(scale)


def test_a_ratio_is_scaled_by_a_thousand_in_every_patient():
    """0.4 in one and 4 in the next must not be read with different divisors."""
    assert ratio_scale(0.4) == ratio_scale(4.0) == ratio_scale(65.0) == 1000
    assert ratio_scale(70.0) == 100


@given(st.floats(1e-6, 1e9), st.integers(0, 2**32 - 1))
def test_a_stored_value_reads_back_within_half_a_step_and_never_wraps(highest, seed):
    values = np.random.default_rng(seed).uniform(0, highest, (2, 3, 4)).astype(np.float32)
    values[1, 2, 3] = highest
    scale = decimal_scale(float(values.max()))
    stored = stored_values(values, scale)
    assert stored.dtype == np.uint16
    assert np.abs(stored / scale - values).max() <= 0.5 / scale * (1 + 1e-6)


def test_negative_values_are_stored_as_zero():
    assert stored_values(np.array([[[-0.4, 0.0, 0.25]]], np.float32), 1000).tolist() == [[[0, 0, 250]]]


@pytest.mark.parametrize(
    ("scale", "words"), [(1000.0, "x1000"), (0.1, "x0.1"), (1e7, "x1e7"), (1e5, "x100000")]
)
def test_the_series_description_names_the_scale(scale, words):
    assert scale_words(scale) == words
