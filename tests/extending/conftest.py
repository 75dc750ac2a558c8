import sys

import pytest

from ganc_nni.core.registry import load_plugins
from ganc_nni.export import FORMATS
from ganc_nni.generators import FAMILIES
from ganc_nni.losses.distillation import LOSSES
from ganc_nni.metrics import METRICS
from ganc_nni.recipe.generator import SECTIONS
from ganc_nni.search.strategies import STRATEGIES

REGISTRIES = (STRATEGIES, LOSSES, METRICS, FORMATS, FAMILIES, SECTIONS)


@pytest.fixture
def install(tmp_path_factory, monkeypatch):
    """Installs a module with an entry point; it and its members are gone afterwards."""
    before = {id(each): set(each) for each in REGISTRIES}
    modules = []

    def installed(name, text):
        folder = tmp_path_factory.mktemp("site")
        (folder / f"{name}.py").write_text(text)
        about = folder / f"{name}-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (about / "entry_points.txt").write_text(f"[ganc_nni]\n{name} = {name}\n")
        monkeypatch.syspath_prepend(folder)
        modules.append(name)
        sys.modules.pop(name, None)
        load_plugins.cache_clear()

    yield installed
    for each in REGISTRIES:
        for name in set(each) - before[id(each)]:
            each.remove(name)
    for name in modules:
        sys.modules.pop(name, None)
    load_plugins.cache_clear()
