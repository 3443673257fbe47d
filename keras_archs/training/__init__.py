"""Training: a configuration in, a run folder with a trained and measured model out."""

from keras_archs.training.config import TrainConfig
from keras_archs.training.data import DataSplits, load_data
from keras_archs.training.run import Run
from keras_archs.training.trainer import train

__all__ = ["DataSplits", "Run", "TrainConfig", "load_data", "train"]
