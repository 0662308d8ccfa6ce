"""Options of the Edge TPU compiler: what is refused before it runs, and what it is given."""

from __future__ import annotations

import pytest
from edgekit_converters.errors import TargetError
from edgekit_converters.targets.edgetpu.options import EdgeTpuOptions
from hypothesis import given, settings
from hypothesis import strategies as st

V16, V15, V2 = "16.0.384591198", "15.0.340273435", "2.1.302470888"


def test_defaults_ask_for_the_table_and_the_compilers_own_time():
    """Without options: the table, and the 180 s the compiler gives itself, said aloud."""
    assert EdgeTpuOptions().arguments(V16) == ["--show_operations", "--timeout_sec", "180"]


def test_every_option_becomes_its_argument():
    """All that go together, in the spelling of compiler 16."""
    options = EdgeTpuOptions(
        min_runtime_version=13,
        search_delegate=True,
        delegate_search_step=4,
        multiple_subgraphs=True,
        num_segments=2,
        timeout_s=60,
        show_operations=False,
    )
    expected = (
        "--min_runtime_version 13 --num_segments 2 --search_delegate --delegate_search_step 4 -a --timeout_sec 60"
    )
    assert options.arguments(V16) == expected.split()
    tensors = EdgeTpuOptions(intermediate_tensors=("a/b;a/c", "d"), show_operations=False).arguments(V16)
    assert tensors == ["--intermediate_tensors", "a/b;a/c,d", "--timeout_sec", "180"]


def test_older_compiler_is_given_no_timer():
    """Compilers before 16 have no --timeout_sec, and are not given one that nobody asked for."""
    assert EdgeTpuOptions().arguments(V2) == ["--show_operations"]


@pytest.mark.parametrize(
    ("version", "options", "said"),
    [
        (V15, {"search_delegate": True}, "--search-delegate needs edgetpu_compiler 16 or newer, this one is 15.0"),
        (V15, {"timeout_s": 20}, "--timeout-s needs"),
        ("14.1.317412892", {"num_segments": 2}, "--num-segments needs edgetpu_compiler 15"),
        (V2, {"multiple_subgraphs": True}, "--multiple-subgraphs needs edgetpu_compiler 14"),
        (V15, {"min_runtime_version": 14}, "runtimes up to 13"),
        ("1.0.249710469", {"min_runtime_version": 11}, "runtimes up to 10"),
    ],
)
def test_option_an_older_compiler_lacks_is_refused(version, options, said):
    """The message names the option, what it needs, and the version at hand."""
    with pytest.raises(TargetError, match=said) as error:
        EdgeTpuOptions(**options).arguments(version)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_runtime_version": 9}, "expected --min-runtime-version to be a whole number from 10 to 14, got 9"),
        ({"min_runtime_version": 15}, "--min-runtime-version"),
        ({"min_runtime_version": True}, "got True"),
        ({"min_runtime_version": "13"}, "got '13'"),
        ({"num_segments": 0}, "--num-segments to be a whole number from 1 to 64"),
        ({"num_segments": None}, "got None"),
        ({"timeout_s": 0}, "--timeout-s"),
        ({"timeout_s": 1.5}, "got 1.5"),
        ({"search_delegate": 1}, "expected search_delegate to be true or false"),
        ({"delegate_search_step": 2}, "give both, or neither"),
        ({"search_delegate": True, "delegate_search_step": 0}, "--delegate-search-step"),
        ({"search_delegate": True, "intermediate_tensors": ("a",)}, "give one of the two"),
        ({"intermediate_tensors": ("a:1",)}, r"'a:1'.*comma or a colon.*#778"),
        ({"intermediate_tensors": ("a,b",)}, "comma or a colon"),
        ({"intermediate_tensors": ("-x",)}, "minus for an option"),
        ({"intermediate_tensors": ("",)}, "printable tensor names"),
        ({"intermediate_tensors": ("a\nb",)}, "printable tensor names"),
        ({"intermediate_tensors": (7,)}, "printable tensor names"),
        ({"intermediate_tensors": ["a"]}, "tuple of names"),
        ({"intermediate_tensors": tuple(map(str, range(300)))}, "at most 256 intermediate tensors, got 300"),
    ],
)
def test_values_that_cannot_be_are_refused(options, said):
    """What was expected, what came; the exit code is that of wrong input."""
    with pytest.raises(TargetError, match=said) as error:
        EdgeTpuOptions(**options)
    assert error.value.refused


@pytest.mark.parametrize("options", [{"num_segments": 2}, {"intermediate_tensors": ("a",)}])
def test_options_of_one_model_are_refused_for_several(options):
    """Segments and intermediate tensors are about one model."""
    made = EdgeTpuOptions(**options)
    made.check_models(1)
    with pytest.raises(TargetError, match="one by one"):
        made.check_models(2)


def test_options_from_plain_values():
    """None is the default, tensor names may come as one text."""
    made = EdgeTpuOptions.from_mapping({"timeout_s": None, "num_segments": 3, "intermediate_tensors": " a/b , c ,"})
    assert made == EdgeTpuOptions(num_segments=3, intermediate_tensors=("a/b", "c"))
    assert EdgeTpuOptions.from_mapping({"timeout_s": 60.0}).timeout_s == 60
    assert EdgeTpuOptions.from_mapping({"intermediate_tensors": ["a"]}).intermediate_tensors == ("a",)
    with pytest.raises(TargetError, match="names, or one text with commas, got 3"):
        EdgeTpuOptions.from_mapping({"intermediate_tensors": 3})


def test_unknown_option_names_what_was_meant():
    """A misspelt option is an error, never a default."""
    with pytest.raises(TargetError, match=r"'num_segment'; did you mean 'num_segments'\? Choose from: min_runtime"):
        EdgeTpuOptions.from_mapping({"num_segment": 2})


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=12), st.one_of(st.none(), st.integers(), st.text(max_size=9)), max_size=3))
def test_rubbish_is_refused_in_our_own_words(values):
    """Whatever a mapping holds, the error is a TargetError."""
    if values:
        with pytest.raises(TargetError, match="unknown option of the Edge TPU compiler"):
            EdgeTpuOptions.from_mapping(values)
    else:
        assert EdgeTpuOptions.from_mapping(values) == EdgeTpuOptions()
