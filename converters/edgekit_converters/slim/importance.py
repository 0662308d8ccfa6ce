"""How much each class of channels matters, from the weights alone.

"l1" and "l2": the norms of the kernel slices that make a channel (Li et al. 2017, arXiv:1608.08710), each divided by the
mean of its layer, averaged over the layers that make it. "batch-norm": the absolute gammas of the BatchNormalizations it
goes through (network slimming, Liu et al. 2017, arXiv:1708.06519), in the same way; classes that go through none are
scored by "l2". Division by the layer's mean is what lets layers of different scale compete.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .channels import Channels

__all__ = ["Scores", "weight_scores"]

Scores = npt.NDArray[np.float64]


def weight_scores(channels: Channels, importance: str) -> Scores:
    """One score per class, around 1; higher matters more. ``importance`` is "l1", "l2" or "batch-norm"."""
    norms = _mean_scores(channels, "makes", 1 if importance == "l1" else 2)
    if importance != "batch-norm":
        return norms
    scales = _mean_scores(channels, "scales", 1)
    return np.where(np.isnan(scales), norms, scales)


def _mean_scores(channels: Channels, role: str, order: int) -> Scores:
    """The mean over all slots of this role that hold a class; nan where none does."""
    sums, counts = np.zeros(channels.count), np.zeros(channels.count)
    for member in channels.members:
        for slot in member.slots:
            if slot.role != role:
                continue
            weight = np.moveaxis(member.layer.weights[slot.weight].numpy().astype(np.float64), slot.axis, 0)
            norms = np.linalg.norm(weight.reshape(len(weight), -1), order, axis=1)
            mean = norms.mean()
            np.add.at(sums, slot.ids, norms / mean if mean else norms)
            np.add.at(counts, slot.ids, 1)
    with np.errstate(invalid="ignore"):
        return sums / counts
