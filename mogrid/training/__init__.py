"""One training from one file: what ``mogrid train`` does."""

from mogrid.training.run import train_from_settings
from mogrid.training.settings import TrainSettings, read_settings

__all__ = ["TrainSettings", "read_settings", "train_from_settings"]
