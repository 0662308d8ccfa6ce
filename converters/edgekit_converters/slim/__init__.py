"""Structured pruning: channels and filters really removed from a Keras 3 graph."""

from __future__ import annotations

from .costs import Costs, count_costs
from .settings import SlimSettings
from .slimming import Slimmed, slim

__all__ = ["Costs", "SlimSettings", "Slimmed", "count_costs", "slim"]
