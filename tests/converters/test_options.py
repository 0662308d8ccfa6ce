"""Quantization options: what is allowed, and what a typo is told."""

from __future__ import annotations

import pytest
from edgekit_converters.errors import TechniqueError
from edgekit_converters.int8.options import QuantizeOptions


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"calibration": "entropie"}, "minmax, percentile, mse, entropy, got 'entropie': did you mean 'entropy'"),
        ({"quantizer": "tflite-convertor"}, "got 'tflite-convertor': did you mean 'tflite-converter'"),
        ({"percentile": 50}, "from 90 to 100 .*, got 50"),
        ({"percentile": float("nan")}, "got nan"),
        ({"percentile": "99"}, "got '99'"),
        ({"percentile": True}, "got True"),
        ({"equalize": 1}, "expected equalize to be true or false, got 1"),
        ({"correct_bias": "yes"}, "expected correct_bias to be true or false, got 'yes'"),
        ({"keep_float": "123"}, "expected keep_float to be operator indices .*, got '123'"),
        ({"keep_float": 3}, "got 3"),
        ({"keep_int16": [1, -1]}, r"expected keep_int16 to be operator indices .*, got \[1, -1\]"),
        ({"keep_int16": [True]}, r"got \[True\]"),
        ({"keep_float": [1, 2], "keep_int16": [2, 3]}, r"got \[2\] in keep_float and in keep_int16"),
        ({"keep_int16": [2], "quantizer": "tflite-converter"}, "has one precision for all it quantizes"),
        ({"keepfloat": [1]}, "got 'keepfloat': did you mean 'keep_float'"),
    ],
)
def test_what_is_no_option_is_refused(values, message) -> None:
    """Each message says what was expected, what came, and the nearest right name where there is one."""
    with pytest.raises(TechniqueError, match=message):
        QuantizeOptions.from_dict(values)


def test_options_survive_the_wire() -> None:
    """As JSON values and back: the same options, operators sorted and each once."""
    options = QuantizeOptions(calibration="mse", equalize=True, keep_float=(4, 1, 4), keep_int16=(2,))

    assert QuantizeOptions.from_dict(options.to_dict()) == options
    assert options.to_dict()["keep_float"] == [1, 4]
    assert options.mixed
    assert not QuantizeOptions().mixed
