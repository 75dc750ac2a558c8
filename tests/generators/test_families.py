import re
from pathlib import Path
from typing import ClassVar

from ganc_nni.generators import FAMILIES
from ganc_nni.testing.families import FamilyConformance

GENERATORS = Path(__file__).parents[2] / "ganc_nni" / "generators"
BUILT_IN = tuple(FAMILIES)


class TestFamilies(FamilyConformance):
    members = BUILT_IN
    kinds: ClassVar = {
        "resnet": (
            {"n_blocks": 6},
            {"n_blocks": 4, "separable": True, "in_channels": 1},
            {"n_blocks": 3, "affine": True, "out_channels": 1},
        ),
        "spade": ({"upsampling": "normal", "in_channels": 5, "separable": True}, {"upsampling": "most"}),
        "unet": ({"n_downs": 5}, {"n_downs": 7, "norm": "batch", "in_channels": 1}),
    }


def test_each_is_one_file_that_no_other_imports_from():
    for name in BUILT_IN:
        assert FAMILIES[name].__module__ == f"ganc_nni.generators.{name}"
    for path in GENERATORS.parent.rglob("*.py"):
        if path.parent.name != "testing":
            found = re.findall(r"^\s*from ganc_nni\.generators\.(\w+) import", path.read_text(), re.M)
            assert not set(found) & set(BUILT_IN), path
