"""Affine quantization against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from edgekit_device import InputError
from edgekit_device.quant import dequantize, quantize
from hypothesis import given
from hypothesis import strategies as st


@given(
    st.floats(-1000, 1000, width=32),
    st.floats(2**-10, 10, width=32),
    st.integers(-128, 127),
)
def test_quantize_is_the_nearest_step(real: float, scale: float, zero_point: int) -> None:
    """Within half a step of the real value, plus float32's rounding of the quotient; saturated beyond the range."""
    step = int(quantize(np.array([real]), scale, zero_point, np.dtype(np.int8))[0])
    exact = Fraction(real) / Fraction(scale) + zero_point
    rounding = abs(exact - zero_point) * Fraction(1, 2**23)

    assert abs(step - min(max(exact, -128), 127)) <= Fraction(1, 2) + rounding


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32])
def test_every_range_saturates_at_its_own_ends(dtype: type) -> None:
    """Values beyond float32 and infinities become the ends, without a warning."""
    limits = np.iinfo(dtype)
    steps = quantize(np.array([-np.inf, -1e300, 1e300, np.inf]), 0.5, 0, np.dtype(dtype))

    assert steps.dtype == dtype
    assert steps.tolist() == [limits.min, limits.min, limits.max, limits.max]


def test_all_int8_steps_come_back() -> None:
    """quantize(dequantize(q)) is q for every step."""
    steps = np.arange(-128, 128).astype(np.int8)

    assert np.array_equal(quantize(dequantize(steps, 0.1, -7), 0.1, -7, np.dtype(np.int8)), steps)
    assert dequantize(steps, 0.1, -7).dtype == np.float32


def test_half_a_step_rounds_to_even() -> None:
    """As numpy and IEEE 754 do."""
    assert quantize(np.array([0.5, 1.5, 2.5, -0.5]), 1.0, 0, np.dtype(np.int8)).tolist() == [0, 2, 2, 0]


def test_nan_has_no_step() -> None:
    """NaN is refused with what to do."""
    with pytest.raises(InputError, match="NaN: clean the input"):
        quantize(np.array([np.nan]), 1.0, 0, np.dtype(np.int8))
