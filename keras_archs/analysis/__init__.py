"""What a model costs and sees, layer by layer, and its picture."""

from keras_archs.analysis.count import analyze
from keras_archs.analysis.draw import draw
from keras_archs.analysis.records import Analysis, Layer, Stage

__all__ = ["Analysis", "Layer", "Stage", "analyze", "draw"]
