"""docs/recipe.md is what the schema says, and the schema says something of every key."""

from pathlib import Path

import pytest

from ganc_nni.recipe.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "recipe.md"
ROWS = [line.strip("| ").split(" | ") for line in reference().splitlines() if line.startswith("| `")]


def test_the_page_is_what_the_schema_says():
    written = PAGE.read_text(encoding="utf-8")
    assert written == reference(), "the schema has changed: python -m ganc_nni.recipe.reference > docs/recipe.md"


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_every_key_has_type_default_and_meaning(row):
    assert len(row) == 4
    assert all(row)


def test_sections_that_stand_in_several_places_have_one_table():
    headings = [line for line in reference().splitlines() if line.startswith("## ")]
    assert "## teacher.schedule, supernet.schedule" in headings
    assert "## search.budget" in headings
    assert len(headings) == len(set(headings))
