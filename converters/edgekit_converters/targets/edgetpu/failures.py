"""Why the Edge TPU compiler failed: its texts recognised, with what is known to be behind them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["FAILURES", "Failure", "FailureText", "recognise_failure"]

MESSAGE_CAP = 300


@dataclass(frozen=True)
class Failure:
    """A failure of the compiler: ``kind``, its own words (``message``, one line), what they mean, and what to do.

    ``refused`` is true where the model or the options have to change, false where the compiler itself failed.
    """

    kind: str
    message: str
    meaning: str
    remedy: str
    refused: bool = True


@dataclass(frozen=True)
class FailureText:
    """A text of the compiler that names a failure. ``pattern`` finds it; its first group, where it has one, goes into ``{0}``
    of ``meaning`` and ``remedy``, the second into ``{1}``. ``source`` is an issue of google-coral/edgetpu where not said."""

    kind: str
    pattern: str
    meaning: str
    remedy: str
    refused: bool = True
    source: str = ""


# In the order in which they are looked for: a cause before the sentence that only says that it failed.
FAILURES = (
    FailureText(
        "already-compiled",
        r"(?:unresolved custom op|custom op for name).*edgetpu-custom-op",
        "the model is a compiled one already",
        "hand over the .tflite it was compiled from",
        source="libedgetpu's operator under a runtime without it",
    ),
    FailureText(
        "operator-version",
        r"Didn't find op for builtin opcode '(\w{1,60})' version '([0-9]{1,6})'",
        "the converter wrote {0} in version {1}, which came after the TensorFlow Lite inside the compiler (16: TensorFlow 2.5)",
        "edgekit inspect MODEL --target coral names the layer; for CONV_2D 6 it is a grouped convolution: leave out groups=",
        source="#631, #845, libedgetpu#71",
    ),
    FailureText(
        "unknown-operator",
        r"Op builtin_code out of range: ([0-9]{1,6})",
        "operator code {0} came after the TensorFlow Lite inside the compiler (16: TensorFlow 2.5)",
        "replace the layer, as GELU by ReLU: edgekit inspect MODEL --target coral names it",
        source="#862",
    ),
    FailureText(
        "custom-operator",
        r"Encountered unresolved custom op: ([^\s.][^\s]{0,100}?)\.?(?:\s|$)",
        "the compiler has no operator called {0}",
        "end the model before that operator and compute it yourself, or build the layer of TensorFlow Lite's own operators",
        source="reports of a custom operator for angles",
    ),
    FailureText(
        "dynamic-shape",
        r"only supports static-sized tensors with a graph that has dynamic-sized tensors",
        "shapes of the model are known only when it runs",
        "fix them: keras.Input(shape=…, batch_size=1), or edgekit convert MODEL --batch 1",
        source="#829, #831",
    ),
    FailureText(
        "not-quantized",
        r"Model not quantized",
        "the model is float, or partly so (compilers before 16 refuse what 16 leaves on the processor)",
        "edgekit convert MODEL --data DATA --recipe int8 --input-type int8 --output-type int8",
        source="#168, #213, #313",
    ),
    FailureText(
        "large-activations",
        r"due to large activation tensors",
        "tensors between the operators do not fit the Edge TPU's memory",
        "use smaller inputs or fewer channels, or let the compiler look for the part that fits: --search-delegate",
        source="#444, #512, #557",
    ),
    FailureText(
        "intermediate-tensors",
        r"number of lists given to intermediate_tensors",
        "the compiler reads a colon in --intermediate-tensors as the end of one model's list",
        "name tensors without a colon, or let the compiler look for them: --search-delegate",
        source="#778",
    ),
    FailureText(
        "option",
        r"(?:unrecogni[sz]ed|unknown|invalid) (?:command line )?(?:option|flag|argument)",
        "this version of the compiler has no such option",
        "use compiler 16, or leave the option out",
    ),
    FailureText(
        "out-of-memory",
        r"std::bad_alloc|[Oo]ut of memory|Cannot allocate memory",
        "this machine's memory was not enough",
        "compile on a machine with more memory",
        refused=False,
    ),
    FailureText(
        "broken-install",
        r"error while loading shared libraries|ld-linux\S* ?: (?:not found|No such file)|Exec format error",
        "the compiler's own files are incomplete, or for another machine",
        "install it again: sudo apt-get install --reinstall edgetpu-compiler",
        refused=False,
    ),
    FailureText(
        "crash",
        r"Segmentation fault|terminating with uncaught exception|terminate called|Aborted \(core|Illegal instruction"
        r"|Check failed|\*\*\* Check failure",
        "the compiler crashed on this model",
        "try --search-delegate, which compiles the part before what it crashes on; others got on with another size of the input",
        refused=False,
        source="#482, #643, #669, #728",
    ),
    FailureText(
        "interpreter",
        r"Node number [0-9]{1,9} \((\w{1,60})\) failed to (?:prepare|invoke)|Model failed in Tflite interpreter",
        "the TensorFlow Lite inside the compiler (16: TensorFlow 2.5) cannot run the model",
        "try it on this machine: edgekit-device run MODEL; where it runs, an operator is newer than the compiler",
        source="#829",
    ),
    FailureText(
        "not-parsed",
        r"Model could not be parsed|Invalid model",
        "the compiler cannot read the file",
        "see that it is a whole .tflite: edgekit inspect MODEL",
    ),
    FailureText(
        "timeout",
        r"(?i)\btimed out\b|\btimeout (?:exceeded|expired|reached|elapsed)|(?:exceeded|reached) (?:the )?timeout"
        r"|did not (?:complete|finish)",
        "the compiler gave up after its own time",
        "give it more with --timeout-s, or compile a smaller model",
        refused=False,
        source="no report: the compiler's words are a guess",
    ),
    FailureText(
        "internal",
        r"Internal compiler error|Compilation failed: Internal error|delegate application failure|Compilation failed",
        "the compiler does not say why; reports name tensors too large for the Edge TPU's memory, an LSTM, or several pieces",
        "try --search-delegate, a smaller input, no --multiple-subgraphs, and once more as it is: it has failed by chance too",
        refused=False,
        source="#49, #157, #211, #309, #356, #800",
    ),
)
_PATTERNS = tuple((text, re.compile(text.pattern)) for text in FAILURES)


def recognise_failure(lines: Sequence[str]) -> Failure | None:
    """The failure that ``lines`` of the compiler's output tell of, the most telling one; None where none does."""
    for text, pattern in _PATTERNS:
        for line in lines:
            found = pattern.search(line)
            if found:
                facts = [group or "it" for group in found.groups()]
                message = line.strip()[:MESSAGE_CAP]
                return Failure(
                    text.kind, message, text.meaning.format(*facts), text.remedy.format(*facts), text.refused
                )
    return None
