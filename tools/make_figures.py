"""Writes keras_archs/figures.csv: parameters and multiply-accumulates of every model, for `keras-archs list`.

Each model is built at its default size, as `include_top=True` without weights builds it. tests/test_zoo.py
checks that the file is what the models say.
"""

import csv
from pathlib import Path

import keras

import keras_archs
from keras_archs.analysis import analyze

FIGURES = Path(__file__).parents[1] / "keras_archs" / "figures.csv"


def main() -> None:
    """Builds every model once; a minute on one core."""
    beside = FIGURES.with_suffix(".new")
    with beside.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "parameters", "macs", "size"])
        for name in keras_archs.list_models():
            with keras.StatelessScope(initialize_variables=False):  # counting needs no memory for weights
                model = keras_archs.create_model(name, weights=None)
            size = keras_archs.get_spec(name).size
            writer.writerow([name, model.count_params(), analyze(model).macs, size])
    beside.replace(FIGURES)


if __name__ == "__main__":
    main()
