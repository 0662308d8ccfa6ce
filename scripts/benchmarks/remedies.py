"""Keras 3's layers and networks in edgekit's int8 on the Edge TPU: versions its compiler can read, operators that map.

Predicted by the rules: nothing here was compiled. ``--details`` prints a row for every layer and network.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from keras_layers import LAYERS
from measuring import ROOT, heading, row

sys.path[:0] = [str(ROOT)]
warnings.simplefilter("ignore")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
from edgekit_converters import ConverterError  # noqa: E402 - the repository first
from edgekit_converters._tf import import_keras  # noqa: E402
from edgekit_converters.quantize import QuantizeOptions  # noqa: E402
from edgekit_converters.targets.edgetpu.op_versions import is_readable  # noqa: E402
from edgekit_converters.targets.operators import read_operators  # noqa: E402
from edgekit_converters.targets.records import OpPlacement, TargetReport  # noqa: E402

from tests.converters.bridge_models import shake  # noqa: E402
from tests.converters.remedy_proof import float_of, int8_of, preflight, trained  # noqa: E402

QUANTIZERS = ("ai-edge-quantizer", "tflite-converter")
SIZE_OPERATORS = frozenset(("SHAPE", "FILL", "RANGE"))
NETWORKS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "MobileNet": ("MobileNet", 224, {}),
    "MobileNetV2": ("MobileNetV2", 224, {}),
    "MobileNetV3Small": ("MobileNetV3Small", 224, {}),
    "MobileNetV3Small minimalistic": ("MobileNetV3Small", 224, {"minimalistic": True}),
    "MobileNetV3Large": ("MobileNetV3Large", 224, {}),
    "EfficientNetB0": ("EfficientNetB0", 224, {}),
    "EfficientNetV2B0": ("EfficientNetV2B0", 224, {}),
    "ResNet50": ("ResNet50", 224, {}),
    "ResNet50V2": ("ResNet50V2", 224, {}),
    "VGG16": ("VGG16", 224, {}),
    "DenseNet121": ("DenseNet121", 224, {}),
    "NASNetMobile": ("NASNetMobile", 224, {}),
    "InceptionV3": ("InceptionV3", 299, {}),
    "Xception": ("Xception", 299, {}),
    "ConvNeXtTiny": ("ConvNeXtTiny", 224, {}),
}


@dataclass(frozen=True)
class Made:
    """An int8 model, or why there is none; ``early`` is then what the rules make of the float model read as int8."""

    name: str
    quantizer: str
    report: TargetReport | None
    versions: tuple[tuple[str, int], ...] = ()
    why: str = ""
    early: TargetReport | None = None


def convert(name: str, float_model: bytes, quantizer: str) -> Made:
    """One model by one quantizer alone."""
    try:
        made = int8_of(float_model, options=QuantizeOptions(quantizer=quantizer))
    except ConverterError as error:
        return Made(name, quantizer, None, why=str(error), early=preflight(float_model, early=True))
    found = tuple((operator.type, operator.version) for operator in read_operators(made).operators)
    return Made(name, quantizer, preflight(made), found)


def convert_layers(keras: Any) -> Iterator[Made]:
    """Every layer by both quantizers."""
    for name in LAYERS:
        float_model = float_of(trained(layer(keras, name)))
        yield from (convert(name, float_model, quantizer) for quantizer in QUANTIZERS)
        keras.backend.clear_session()


def convert_networks(keras: Any) -> Iterator[Made]:
    """Every network as edgekit does: by the second quantizer where the first does not keep its promise."""
    for name in NETWORKS:
        float_model = float_of(shake(network(keras, name)))
        made = convert(name, float_model, QUANTIZERS[0])
        yield made if made.report is not None else convert(name, float_model, QUANTIZERS[1])
        keras.backend.clear_session()


def layer(keras: Any, name: str) -> Any:
    """The model of one layer."""
    shape, body = LAYERS[name]
    given = keras.Input(shape, dtype="int32" if name == "Embedding" else "float32", name="x")
    return keras.Model(given, body(keras, given))


def network(keras: Any, name: str) -> Any:
    """A network of keras.applications with drawn weights."""
    kind, size, how = NETWORKS[name]
    return getattr(keras.applications, kind)(
        weights=None, input_shape=(size, size, 3), classifier_activation=None, **how
    )


def judge_versions(made: list[Made]) -> None:
    """Which versions there are, and which the compiler cannot read."""
    heading("Operator versions of int8 models against what edgetpu_compiler 16 reads (TensorFlow 2.5)")
    for quantizer in QUANTIZERS:
        whole = [item for item in made if item.quantizer == quantizer and item.report is not None]
        found = {pair for item in whole for pair in item.versions}
        unreadable = sorted(pair for pair in found if not is_readable(*pair))
        row(f"{quantizer}: models, kinds of operator and version", f"{len(whole)}, {len(found)}", "–", None)
        said = ", ".join(f"{type_} {version}" for type_, version in unreadable)
        row(f"{quantizer}: versions newer than that, which the operators need", said or "none", "–", None)
        sizes = sum(type_ in SIZE_OPERATORS for item in whole for type_, _ in item.versions)
        row(
            f"{quantizer}: operators that work out a shape ({', '.join(sorted(SIZE_OPERATORS))})",
            str(sizes),
            "0",
            sizes == 0,
        )
    pairs = {(item.name, item.quantizer): item.versions for item in made if item.report is not None}
    both = {name for name, _ in pairs if all((name, quantizer) in pairs for quantizer in QUANTIZERS)}
    other = sorted(name for name in both if len({_computing(pairs[name, quantizer]) for quantizer in QUANTIZERS}) > 1)
    said = f"{len(other)} of {len(both)}" + (f": {', '.join(other)}" if other else "")
    row("models by both whose operators or versions differ (conversions apart)", said, "–", None)


def _computing(versions: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(pair for pair in versions if pair[0] != "QUANTIZE"))


def best(made: list[Made]) -> list[Made]:
    """What edgekit takes: the first quantizer's model, the second's where that has none."""
    found: dict[str, Made] = {}
    for item in made:
        if item.name not in found or (found[item.name].report is None and item.report is not None):
            found[item.name] = item
    return list(found.values())


def summarize(title: str, made: list[Made]) -> None:
    """How many map whole, in part, not at all, are refused, or cannot be int8."""
    heading(title)
    items = best(made)
    reports = [item.report for item in items if item.report is not None]
    whole = [report for report in reports if report.fully_on_target]
    refused = [report for report in reports if report.refusal]
    row("all of it on the Edge TPU", f"{len(whole)} of {len(items)}", "–", None)
    row("some of it", str(len(reports) - len(whole) - len(refused)), "–", None)
    row("refused by the compiler", str(len(refused)), "–", None)
    row("cannot be int8", str(len(items) - len(reports)), "–", None)
    lost = [report for report in reports if not report.fully_on_target]
    lost += [item.early for item in items if item.report is None and item.early is not None]
    advised = sum(bool(report.remedy or any(map(_own_remedy, report.ops))) for report in lost)
    row("of those not whole, with a remedy", f"{advised} of {len(lost)}", "–", None)


def _own_remedy(op: OpPlacement) -> bool:
    """Whether an operator has a remedy that does not just point at another."""
    return bool(op.remedy) and not op.remedy.startswith("change operator")


def detail(made: list[Made]) -> None:
    """A Markdown row for each model."""
    print(
        "\n| model | operators | on the Edge TPU | the first that is not, and why | remedy |\n| :-- | --: | --: | :-- | :-- |"
    )
    for item in best(made):
        report = item.report or item.early
        assert report is not None
        first = next((op for op in report.ops if _own_remedy(op)), None)
        first = first or next((op for op in report.ops if op.placement == "cpu"), None)
        note = "" if item.report is not None else " (cannot be int8; the float model read as if it were)"
        print(f"{item.name}: {item.why}" if item.why else "", end="\n" if item.why else "", file=sys.stderr)
        share = f"{report.on_target}" if not report.refusal else "refused"
        why = "" if first is None else f"`{first.type}` {first.version}: {first.reason}"
        remedy = report.remedy or ("" if first is None else first.remedy)
        print(f"| {item.name}{note} | {len(report.ops)} | {share} | {why} | {remedy} |", flush=True)


def main() -> int:
    """Convert, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", help="not needed: accepted as everywhere")
    parser.add_argument("--details", action="store_true", help="a row for every layer and network")
    parser.add_argument("--only", choices=("layers", "networks"), help="one half of it")
    said = parser.parse_args()
    keras = import_keras()
    made: dict[str, list[Made]] = {
        "layers": [] if said.only == "networks" else list(convert_layers(keras)),
        "networks": [] if said.only == "layers" else list(convert_networks(keras)),
    }
    judge_versions(made["layers"] + made["networks"])
    for kind, title in (("layers", "Keras 3 layers"), ("networks", "keras.applications")):
        if made[kind]:
            summarize(f"{title} in int8 on the Edge TPU (predicted, not compiled)", made[kind])
        if said.details and made[kind]:
            detail(made[kind])
    return 0


if __name__ == "__main__":
    sys.exit(main())
