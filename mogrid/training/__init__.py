"""One training from one file: what ``mogrid train`` does."""

from mogrid.training.recipe import TrainSettings, read_settings
from mogrid.training.run import train_from_settings

__all__ = ["TrainSettings", "read_settings", "train_from_settings"]
