"""One telling line out of what other libraries say."""

from __future__ import annotations

import pytest
from edgekit_converters.reason import TEXT_CAP, conversion_reason, crash_reason, first_line, short

TRACED = """in user code:

    File "trace.py", line 57, in call  *
        return model(arguments)
    File "error_handler", line 122, in error_handler  **
        raise e.with_traceback(filtered_tb) from None

    ValueError: Exception encountered when calling Dense.call().

    \x1b[1mwrong rank\x1b[0m

    Arguments received by Dense.call():
"""
MLIR = """Could not translate MLIR to FlatBuffer./a/b.py:1:1: error: 'tf.Erf' op is neither a custom op nor a flex op
/a/b.py:1:1: note: Error code: ERROR_NEEDS_FLEX_OPS
/a/b.py:1:1: error: 'tf.Betainc' op is neither a custom op nor a flex op
"""
HALF = """error: 'tf.Conv2D' op is neither a custom op nor a flex op
Details:
\ttf.Conv2D(tensor<1x8x8x3xf16>, tensor<3x3x3x4xf16>) -> (tensor<1x6x6x4xf16>)
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\n\n  plain\nmore", "plain"),
        ("", "RuntimeError"),
        ('Traceback (most recent call last):\n  File "x.py", line 3, in f\n    raise ValueError(\nbad', "bad"),
        (TRACED, "ValueError: Exception encountered when calling Dense.call(). wrong rank"),
        ("in user code:\n\n  File x\n  only this", "only this"),
        (
            "Exception encountered when calling X.call().\n\n\x1b[1mwhy\x1b[0m",
            "Exception encountered when calling X.call(). why",
        ),
    ],
)
def test_first_line_is_the_one_that_says_something(text, line):
    """Frames, quoted source and colours are left out; an empty message gives the error's type."""
    assert first_line(RuntimeError(text)) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (MLIR, "TFLite has no operator for Betainc, Erf: replace the layers that use them"),
        (
            "Flex ops: FlexErf, FlexB\nDetails",
            "TFLite has no operator for FlexB, FlexErf: replace the layers that use them",
        ),
        ("Custom ops: HashTableV2", "TFLite has no operator for HashTableV2: replace the layers that use them"),
        ("x\nloc: error: shape mismatch\ny", "loc: error: shape mismatch"),
        ("nothing helpful", "nothing helpful"),
        (
            HALF,
            "TFLite has no operator for Conv2D in float16: replace the layers that use them, or hand over the Keras model, "
            "whose precision can be changed to float32",
        ),
        (
            "Custom ops: A, B, C, D, E, F, G",
            "TFLite has no operator for A, B, C, D, E and 2 more: replace the layers that use them",
        ),
    ],
)
def test_converter_says_which_operators_are_lacking(text, line):
    """Operators without a counterpart are listed; anything else gives its error line."""
    assert conversion_reason(RuntimeError(text)) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("loading\nF0000 check.cc:3] Check failed: a == b\nINFO bye", "F0000 check.cc:3] Check failed: a == b"),
        ("hello\nW0000 something", "hello"),
        ("x.py:3: UserWarning: old\n  warnings.warn(\n", ""),
        ("", ""),
    ],
)
def test_cause_of_death_is_the_last_telling_line(text, line):
    """Fatal lines win over chatter, and warnings are no cause."""
    assert crash_reason(text) == line


def test_long_lines_are_cut():
    """A line has a limit, control characters none of its room."""
    assert short("a\x00b\x1b[31mc\n d") == "abc d"
    assert len(short("x" * 1000)) == TEXT_CAP
