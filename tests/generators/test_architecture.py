import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganc_nni.core.errors import InputError
from ganc_nni.core.widths import Widths
from ganc_nni.generators.architecture import Architecture
from ganc_nni.generators.resnet import LABELS, ResnetConfig

WIDTHS = (4, 8, 12)
COUNTS = st.integers(1, 10**12)
SCORES = st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text(max_size=20)


@st.composite
def architectures(draw):
    widths = Widths(draw(st.fixed_dictionaries({label: st.sampled_from(WIDTHS) for label in LABELS}))).ordered(LABELS)
    channels = st.sampled_from((1, 3))
    return Architecture(
        config=ResnetConfig(
            in_channels=draw(channels),
            out_channels=draw(channels),
            n_blocks=draw(st.integers(3, 9)),
            separable=draw(st.booleans()),
        ),
        space=dict.fromkeys(LABELS, WIDTHS),
        widths=widths,
        config_str=str(widths),
        image_size=draw(st.tuples(st.integers(16, 512), st.integers(16, 512))),
        macs_published=draw(COUNTS),
        macs_true=draw(COUNTS),
        params=draw(COUNTS),
        metrics=draw(st.dictionaries(WORDS, SCORES, max_size=3)),
        provenance=draw(st.dictionaries(WORDS, WORDS | st.integers() | SCORES, max_size=3)),
    )


def example(**changes):
    sample = dict.fromkeys(LABELS, 4)
    content = {
        "blueprint": {"family": "resnet", "n_blocks": 3, "separable": True},
        "space": dict.fromkeys(LABELS, WIDTHS),
        "sample": sample,
        "config_str": str(Widths(sample)),
        "image_size": (32, 32),
        "macs_published": 3,
        "macs_true": 2,
        "params": 1,
        "metrics": {"fid/search": 60.5},
        "provenance": {"recipe": "tiny"},
    }
    return {**content, **changes}


@given(architectures())
def test_what_is_saved_is_loaded(tmp_path_factory, architecture):
    path = tmp_path_factory.mktemp("architecture") / "deep" / "architecture.json"
    architecture.save(path)
    assert Architecture.load(path) == architecture
    assert json.loads(path.read_text())["schema_version"] == 1
    assert [file.name for file in path.parent.iterdir()] == ["architecture.json"]


@given(architectures())
def test_the_network_has_the_sample_s_widths(architecture):
    network = architecture.network()
    state = network.state_dict()
    sample, config = architecture.widths, architecture.config
    assert state["model.1.weight"].shape[:2] == (sample["down_0"], config.in_channels)
    assert state["model.7.weight"].shape[0] == 4 * sample["down_2"]
    assert (
        len(
            [key for key in state if key.endswith("conv_block.1.weight" if not config.separable else "1.conv.0.weight")]
        )
        == config.n_blocks
    )
    size = (1, config.in_channels, 16, 16)
    assert network(torch.zeros(size)).shape == (1, config.out_channels, 16, 16)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"extra": 1}, "extra"),
        ({"blueprint": {"family": "vit"}}, "family"),
        ({"params": "many"}, "params"),
        ({"image_size": [32]}, "image_size"),
        ({"sample": dict.fromkeys(LABELS, "wide")}, "sample"),
        ({"sample": {"down_0": 4}}, "sample"),
        ({"sample": {**dict.fromkeys(LABELS, 4), "up_9": 4}}, "sample"),
        ({"sample": dict.fromkeys(LABELS, 0)}, "sample"),
        ({"sample": dict.fromkeys(LABELS, 8)}, "config_str: got '4_4_4_4_4_4_4_4'; expected the widths of sample, 8_8"),
        ({"config_str": "4_4_4_4_4_4"}, "config_str"),
        ({"config_str": ""}, "config_str"),
        ({"space": {**dict.fromkeys(LABELS, WIDTHS), "up_0": [8]}}, "sample: up_0: got 4; expected one of its space"),
        ({"space": {}}, "sample: down_0: got 4"),
        ({"image_size": [32, 0]}, "image_size"),
        ({"params": -1}, "params"),
        *(
            (
                {"blueprint": {"family": "resnet", key: value}},
                f"blueprint.resnet.{key}: got {value}; expected ",
            )
            for key in ("in_channels", "out_channels", "n_blocks")
            for value in (-1, 0, 10**7)
        ),
    ],
    ids=repr,
)
def test_another_content_is_refused(tmp_path, changes, named):
    path = tmp_path / "architecture.json"
    path.write_text(json.dumps(example(**changes)))
    with pytest.raises(InputError, match=r"architecture\.json: ") as error:
        Architecture.load(path)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xfe\x00", b'{"sample": {}}'], ids=repr)
def test_what_is_no_architecture_is_refused(tmp_path, content):
    path = tmp_path / "architecture.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"architecture\.json: ") as error:
        Architecture.load(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        Architecture.load(tmp_path / "none.json")


def test_the_example_itself_loads(tmp_path):
    path = tmp_path / "architecture.json"
    path.write_text(json.dumps(example()))
    assert Architecture.load(path).metrics == {"fid/search": 60.5}
