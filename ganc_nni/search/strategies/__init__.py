"""The strategies that a recipe can choose."""
