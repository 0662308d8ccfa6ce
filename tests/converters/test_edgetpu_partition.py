"""How TFLite cuts a graph for a delegate, against a formula that says of each operator, by itself, which piece it is in."""

from __future__ import annotations

from edgekit_converters.model_card import TensorCard
from edgekit_converters.targets.edgetpu.partition import cut
from edgekit_converters.targets.edgetpu.placing import place
from edgekit_converters.targets.operators import Operator, read_operators
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.converters.edgetpu_models import chain


def _tensor(index: int) -> TensorCard:
    return TensorCard(index, f"t{index}", "int8", (1, 8), None, (0.5,), (0,), 0, False, 8)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Operator], list[bool], list[set[int]]]:
    """Random graphs in the order they run in: operators, whether each is supported, and the operators each reads."""
    count = draw(st.integers(1, 24))
    reads = [draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else set() for i in range(count)]
    kinds = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    # Tensor 0 is the model's input; operator i makes tensor i + 1.
    operators = [
        Operator(
            i, "RELU", 1, False, tuple(_tensor(j + 1) for j in sorted(reads[i])) or (_tensor(0),), (_tensor(i + 1),)
        )
        for i in range(count)
    ]
    return operators, kinds, reads


def _expected_pieces(kinds: list[bool], reads: list[set[int]]) -> list[int]:
    """Pieces take turns in kind, and the first is of the first operator's: so an operator is in the first piece of its kind that
    comes not before any it reads."""
    pieces: list[int] = []
    for kind, read in zip(kinds, reads, strict=True):
        earliest = max((pieces[i] for i in read), default=0)
        turn = 0 if kind == kinds[0] else 1
        pieces.append(earliest + (earliest - turn) % 2)
    return pieces


@settings(deadline=None, max_examples=100)
@given(graphs())
def test_every_operator_is_in_the_piece_the_formula_says(
    graph: tuple[list[Operator], list[bool], list[set[int]]],
) -> None:
    """The scan of TFLite and the closed form agree on any graph."""
    operators, kinds, reads = graph
    expected = _expected_pieces(kinds, reads)
    found = {at: number for number, piece in enumerate(cut(operators, kinds)) for at in piece.operators}
    # A kind that never comes leaves its turn out.
    numbers = sorted(set(expected))
    assert [found[at] for at in range(len(operators))] == [numbers.index(piece) for piece in expected]


@settings(deadline=None, max_examples=100)
@given(graphs())
def test_a_piece_reads_only_what_is_there(graph: tuple[list[Operator], list[bool], list[set[int]]]) -> None:
    """Pieces run one after the other: none reads what a later one makes, and each is of one kind."""
    operators, kinds, reads = graph
    done: set[int] = set()
    for piece in cut(operators, kinds):
        done |= set(piece.operators)
        assert all(reads[at] <= done for at in piece.operators)
        assert {kinds[at] for at in piece.operators} == {piece.supported}
    assert done == set(range(len(operators)))


def test_operators_that_wait_for_each_other_end_the_cutting() -> None:
    """A circle, which only a damaged file has, is a last piece that nothing takes, and no endless loop."""
    operators = [
        Operator(0, "RELU", 1, False, (_tensor(2),), (_tensor(1),)),
        Operator(1, "RELU", 1, False, (_tensor(1),), (_tensor(2),)),
    ]
    (piece,) = cut(operators, [True, True])
    assert (piece.supported, piece.operators) == (False, (0, 1))


def test_an_operator_the_tpu_lacks_at_the_head_costs_nothing_behind_it() -> None:
    """What comes before the first piece stays on the processor; the piece behind it is still the first."""
    placing = place(read_operators(chain("ELU", "RELU", "CONV", "RELU")).operators)
    assert placing.mapped == (False, True, True, True)


def test_the_first_piece_is_kept_and_not_the_largest() -> None:
    """The compiler keeps the first piece it can map, of a single operator too, and with -a all of them."""
    operators = read_operators(chain("RELU", "ELU", "CONV", "RELU", "CONV", "RELU6", "ELU", "TANH")).operators
    assert place(operators).mapped == (True, *[False] * 7)
    assert [len(piece) for piece in place(operators, multiple_subgraphs=True).pieces] == [1, 4, 1]
