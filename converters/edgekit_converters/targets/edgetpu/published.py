"""Latencies others published for models on the Edge TPU, and what those models cost by our own counting.

The table is Google's, coral.ai/docs/edgetpu/benchmarks (read in 2026): C++, the execution alone, a desktop with the USB
Accelerator at USB 3, and the Dev Board, whose Edge TPU is on PCIe. Cycles, layers and packed bytes are those of the published
architectures at the published input size, int8 with scales per channel, by ``cycles.py`` and ``memory.py``; what does not fit
into 7.4 MiB streams.

Left out: models with operators on the processor (SSD, DeepLab), DenseNet (its normalisation before the convolutions does not fold
into them, so other operators decide), Inception-ResNet V2 (57 ms over USB would take more than 1 GB/s: another model than the
published architecture), Inception V4, EfficientNet-EdgeTPU and U-Net (no architecture at hand to count).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PUBLISHED", "Published"]


@dataclass(frozen=True)
class Published:
    """One model: ``moved_bytes`` go over the link in every inference (input, output, parameters streamed)."""

    name: str
    cycles: int
    layers: int
    moved_bytes: int
    usb_ms: float
    pcie_ms: float


PUBLISHED = (
    Published("MobileNet v1", 674_392, 28, 151_528, 2.4, 2.4),
    Published("MobileNet v2", 398_788, 53, 151_528, 2.6, 2.6),
    Published("ResNet-50 V1", 8_246_928, 54, 18_281_516, 49, 56),
    Published("ResNet-50 V2", 7_567_184, 54, 18_281_516, 50, 59),
    Published("ResNet-152 V2", 22_363_984, 156, 53_212_204, 128, 151),
    Published("VGG16", 15_550_720, 16, 130_905_729, 296, 343),
    Published("VGG19", 19_753_216, 19, 136_224_385, 308, 357),
    Published("Inception v1", 1_757_400, 58, 151_529, 3.4, 4.1),
    Published("SqueezeNet", 1_045_760, 26, 151_528, 2.1, 2.0),
)
