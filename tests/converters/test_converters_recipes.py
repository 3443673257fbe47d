import pytest

import converters
from converters.recipes import get_recipe


def test_each_recipe_enforces_something():
    for recipe in converters.RECIPES.values():
        limits = vars(recipe.tolerance).values()
        assert any(limit is not None for limit in limits), recipe.name


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(
        ValueError, match=r"recipe='int-8' is not accepted. Did you mean 'int8'\?.*saved_model"
    ):
        get_recipe("int-8")


def test_recipes_of_the_issue():
    names = "float32 float16 dynamic_int8 weights_int8 weights_int4 int8 int16x8 saved_model".split()
    assert converters.list_recipes() == names
