"""Many recipes: a grid over a recipe's fields, its cells, and what drains them."""
