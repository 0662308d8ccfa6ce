"""Which layers of a recipe's int8 model are to blame for what it loses, for the search to keep in float."""

from __future__ import annotations

from edgekit_converters.diagnosis.diagnose import rank_layers

from .conversion import ConversionJob
from .diagnosis import diagnose_recipe
from .quantization import layers_of_operators
from .recipe import Recipe

__all__ = ["guilty_layers"]

# Of the time that is left for the search, so much may go into finding out where to look.
SHARE_OF_TIME = 0.5


def guilty_layers(
    job: ConversionJob, recipe: Recipe, *, remaining_s: float | None
) -> tuple[list[tuple[str, ...]], int]:
    """Groups of Keras layers to keep at a higher precision together, the guiltiest first, and how many layers there are.

    ``remaining_s`` is the time left for the search; None takes what it takes, and gives the same every time. Raises
    EdgekitError where the model cannot be diagnosed.
    """
    budget = None if remaining_s is None else SHARE_OF_TIME * remaining_s
    diagnosis = diagnose_recipe(job, recipe, budget_s=budget, wins=False)["diagnosis"]
    origins = layers_of_operators(job.floats.of(recipe))
    groups = [tuple(dict.fromkeys(name for i in group if (name := origins[i]))) for group in rank_layers(diagnosis)]
    return [group for group in dict.fromkeys(groups) if group], len({name for name in origins if name})
