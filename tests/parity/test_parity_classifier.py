"""Counts, order, shapes and numbers with the classifier, against keras.applications."""

import pytest
from keras_peer import ELEVEN, EVEN, ODD, builders, eleven, images, largest_difference, pair


@eleven
def test_with_the_classifier_at_the_default_size(name):
    theirs, ours = pair(name)
    assert ours.count_params() == ELEVEN[name]
    assert (ours.name, ours.input_shape) == (theirs.name, theirs.input_shape)
    (x,) = images(theirs.input_shape[1])
    assert largest_difference(theirs, ours, x) <= 1e-6

    ours.set_weights([0.9 * w for w in ours.get_weights()])
    assert largest_difference(theirs, ours, x) > 1e-6
    theirs.set_weights(ours.get_weights())
    assert largest_difference(theirs, ours, x) <= 1e-6


@builders
@pytest.mark.parametrize(("size", "channels"), [(ODD, 1), (EVEN, 4), (ODD, 3), (EVEN, 3)])
def test_with_the_classifier_at_other_sizes(name, size, channels, recwarn):
    theirs, ours = pair(name, input_shape=(size, size, channels), classes=7, classifier_activation=None)
    assert largest_difference(theirs, ours, images(size, channels=channels)[0]) <= 1e-6
