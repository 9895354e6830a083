"""From a recipe to a run: data, base model, fit, judgement, record. The only way a run is made."""

from mogrid.training.recipe import Recipe, read_recipe
from mogrid.training.run import Materials, materials, run
from mogrid.training.train import train_from_recipe

__all__ = ["Materials", "Recipe", "materials", "read_recipe", "run", "train_from_recipe"]
