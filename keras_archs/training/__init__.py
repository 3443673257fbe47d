"""Training: a configuration in, a run folder with a trained and measured model out."""

from keras_archs.training.config import TrainConfig, list_recipes
from keras_archs.training.data import DataSplits, load_data
from keras_archs.training.evaluation import Evaluation, evaluate_model
from keras_archs.training.run import Run
from keras_archs.training.trainer import Options, train

__all__ = [
    "DataSplits",
    "Evaluation",
    "Options",
    "Run",
    "TrainConfig",
    "evaluate_model",
    "list_recipes",
    "load_data",
    "train",
]
