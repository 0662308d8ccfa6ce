"""What the Edge TPU compiler says of an operator, in its words, and what that means."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LATER", "STATUSES", "Status", "find_status"]


@dataclass(frozen=True)
class Status:
    """A status of the operation log: ``text`` is the compiler's, ``meaning`` and ``remedy`` are ours.

    ``source`` says where it was seen, by an issue of google-coral/edgetpu or by the log it stands in.
    """

    name: str
    text: str
    meaning: str
    remedy: str = ""
    source: str = "compiler logs of versions 1.0 and 16.0"

    @property
    def mapped(self) -> bool:
        """Whether operators of this status run on the Edge TPU."""
        return self.name == "mapped"


LATER = "More than one subgraph is not supported"  # lost behind another operator, with nothing wrong with itself

STATUSES = (
    Status("mapped", "Mapped to Edge TPU", "it runs on the Edge TPU"),
    Status(
        "later-subgraph",
        LATER,
        "it comes behind an operator that stays on the processor, and only one piece of a model goes to the Edge TPU",
        "change the operator that breaks the chain, or allow several pieces: --multiple-subgraphs",
    ),
    Status(
        "limitation",
        "Operation is otherwise supported, but not mapped due to some unspecified limitation",
        "the Edge TPU has this operator, but not with these sizes or options",
        "make the tensor smaller, or change the operator's options",
    ),
    Status(
        "dtype",
        "Operation is working on an unsupported data type",
        "it reads or writes something else than 8-bit integers",
        "quantize it to int8, inputs and outputs too: --recipe int8 --input-type int8 --output-type int8",
    ),
    Status(
        "operator",
        "Operation not supported",
        "the Edge TPU has no such operator",
        "replace the layer by one the Edge TPU has (docs/edgetpu-rules.md lists them), or move it to the end of the model",
        "google-coral/edgetpu#342",
    ),
    Status(
        "version",
        "Operation version not supported",
        "the converter wrote a newer version of this operator than the compiler maps",
        "use compiler 16, or convert the layer to an older form",
        "google-coral/edgetpu#396, #420",
    ),
    Status(
        "rank",
        "Tensor has unsupported rank (up to 3 innermost dimensions mapped)",
        "more than its innermost three dimensions are larger than 1",
        "fold the leading dimensions into the third from the end, with a Reshape before it",
        "google-coral/edgetpu#708",
    ),
    Status(
        "weights-computed",
        "Filter, bias, or other param is not constant at compile-time",
        "its weights are computed while the model runs",
        "multiply two computed tensors elsewhere: a layer with weights of its own maps",
        "compiler 2.0, google-coral/edgetpu#25",
    ),
    Status(
        "rank-2d-output",
        "For example, a fully-connected or softmax layer with 2D output",
        "its output has more than one dimension larger than 1",
        "give it one row at a time: batch 1, and a Flatten before it",
        "compiler 2.0, google-coral/edgetpu#27",
    ),
)
_BY_TEXT = {status.text.casefold(): status for status in STATUSES}
_BEGINNINGS = (("tensor has unsupported rank", "rank"), ("for example, a fully-connected", "rank-2d-output"))


def find_status(text: str) -> Status | None:
    """The status the compiler wrote as ``text``; None for one nobody has told us of yet.

    Compiler 2.1 wrote the one about the rank without what follows in brackets, and copies of logs cut it.
    """
    said = " ".join(text.split()).casefold()
    found = _BY_TEXT.get(said)
    if found is not None:
        return found
    name = next((name for beginning, name in _BEGINNINGS if said.startswith(beginning)), "")
    return next((status for status in STATUSES if status.name == name), None)
