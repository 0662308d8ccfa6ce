"""What the Edge TPU compiler prints, written afresh in its format with names and numbers of our own.

``{m}`` stands for the model's stem. The stub compiler prints the failures too.
"""

from __future__ import annotations

VERSION_16 = "Edge TPU Compiler version 16.0.384591198"
TIMER = "Started a compilation timeout timer of 180 seconds."
IN_TIME = "Compilation child process completed within timeout period."
SUCCEEDED, FAILED = "Compilation succeeded! ", "Compilation failed! "  # the space is the compiler's
PARTIAL = (
    "Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will "
    "instead run on the CPU, which is slower. If possible, consider updating your model to use only operations supported "
    "by the Edge TPU. For details, visit g.co/coral/model-reqs."
)
INTERPRETER = (
    "Compilation failed: Model failed in Tflite interpreter. "
    "Please ensure model can be loaded/run in Tflite interpreter."
)
LARGE = "Compilation failed: Compilation failed due to large activation tensors in model."
RESTORED = "ERROR: Restored original execution plan after delegate application failure."

# By the kind that each is recognised as: the lines between the timer and the verdict.
FAILURES: dict[str, tuple[str, ...]] = {
    "operator-version": (
        "ERROR: Didn't find op for builtin opcode 'CONV_2D' version '6'. An older version of this builtin might be supported. "
        "Are you using an old TFLite binary with a newer model?",
        "",
        "ERROR: Registration failed.",
        "",
        "Invalid model: {m}.tflite",
        "Model could not be parsed",
    ),
    "not-quantized": ("Invalid model: {m}.tflite", "Model not quantized"),
    "dynamic-shape": (
        "ERROR: Attempting to use a delegate that only supports static-sized tensors with a graph that has dynamic-sized "
        "tensors.",
        INTERPRETER,
    ),
    "custom-operator": (
        "ERROR: Encountered unresolved custom op: Hypot.",
        "ERROR: Node number 7 (Hypot) failed to prepare.",
        "",
        INTERPRETER,
    ),
    "internal": (),
    "unknown-operator": (
        "ERROR: Op builtin_code out of range: 150. Are you using old TFLite binary with newer model?",
    ),
    "large-activations": (RESTORED, LARGE),
    "already-compiled": ("ERROR: Encountered unresolved custom op: edgetpu-custom-op.", INTERPRETER),
    "interpreter": ("ERROR: Node number 3 (ADD) failed to prepare.", INTERPRETER),
    "not-parsed": ("Invalid model: {m}.tflite", "Model could not be parsed"),
    "crash": ("libc++abi: terminating with uncaught exception of type std::out_of_range: vector",),
    "out-of-memory": ("libc++abi: terminating with uncaught exception of type std::bad_alloc: std::bad_alloc",),
}


def table(*rows: tuple[str, int, str]) -> str:
    """The operator table: the type, from column 31 the count, from column 42 the status."""
    lines = [f"{type_:<31}{count:<11}{status}" for type_, count, status in rows]
    return "\n".join(["Operator                       Count      Status", "", *lines])


def block(
    stem: str,
    rows: tuple[tuple[str, int, str], ...],
    *,
    cached: str = "1.25MiB",
    remaining: str = "6.50MiB",
    streamed: str = "0.00B",
    subgraphs: int = 1,
    shown: bool = True,
    folder: str = "out/",
) -> str:
    """What is said of one model whose operator table is ``rows``."""
    total = sum(count for _, count, _ in rows)
    on_tpu = sum(count for _, count, status in rows if status == "Mapped to Edge TPU")
    partial = [
        "",
        PARTIAL,
        f"Number of operations that will run on Edge TPU: {on_tpu}",
        f"Number of operations that will run on CPU: {total - on_tpu}",
    ]
    lines = [
        f"Input model: {stem}.tflite",
        "Input size: 2.50MiB",
        f"Output model: {folder}{stem}_edgetpu.tflite",
        "Output size: 768.50KiB",
        f"On-chip memory used for caching model parameters: {cached}",
        f"On-chip memory remaining for caching model parameters: {remaining}",
        f"Off-chip memory used for streaming uncached model parameters: {streamed}",
        f"Number of Edge TPU subgraphs: {subgraphs}",
        f"Total number of operations: {total}",
        f"Operation log: {folder}{stem}_edgetpu.log",
        *(partial if on_tpu < total else []),
        *(["", table(*rows)] if shown else ["See the operation log file for individual operation details."]),
    ]
    return "\n".join(lines)


def success(*blocks: str, milliseconds: int = 731) -> str:
    """A compilation that succeeded, from the timer to the verdict."""
    models = "Models" if len(blocks) > 1 else "Model"
    body = "\n\n".join(blocks)
    return "\n".join(
        [TIMER, "", f"{models} compiled successfully in {milliseconds} ms!", "", body, IN_TIME, SUCCEEDED, ""]
    )


def failure(kind: str, stem: str = "m") -> str:
    """A compilation that failed, from the timer to the verdict."""
    said = [line.replace("{m}", stem) for line in FAILURES[kind]]
    return "\n".join([TIMER, *said, IN_TIME, FAILED, ""])


def log_file(stem: str, rows: tuple[tuple[str, int, str], ...], version: str = VERSION_16) -> str:
    """The ``.log`` beside a compiled model."""
    return "\n".join([version, f"Input: {stem}.tflite", f"Output: {stem}_edgetpu.tflite", "", table(*rows), ""])
