import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from deployables import BLUEPRINTS, LABELLING, architecture, deployable, inputs, network, size
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.export import FORMATS, Interface, deploy
from ganc_nni.export.files import CONDITIONED, read_files
from ganc_nni.export.graph import to_onnx
from ganc_nni.export.interface import Labels, OfBytes
from ganc_nni.export.runtime import module, session
from ganc_nni.export.verify import difference, network_runner, onnx_runner, program_runner
from ganc_nni.generators.architecture import Architecture

_made = {}


def content(name, dynamic=False, as_bytes=False, kind="onnx"):
    key = (name, dynamic, as_bytes, kind)
    if key not in _made:
        _made[key] = FORMATS[kind].write(deployable(name, dynamic, as_bytes))
    return _made[key]


@pytest.mark.parametrize("name", BLUEPRINTS)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_any_batch_and_size_give_the_network_s_image(name, data):
    steps, _ = BLUEPRINTS[name].sides()
    times = st.integers(2, 3) if "spade" in name else st.integers(3, 12)
    shape = data.draw(times) * steps, data.draw(times) * steps
    x = inputs(name, shape, data.draw(st.integers(1, 3)), seed=data.draw(st.integers(0, 9)))
    apart = difference("file", onnx_runner(content(name, dynamic=True), 1), network_runner(network(name)), [x])
    assert apart.largest.max() < 0.5


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_bytes_are_what_images_become(name):
    pixels, images = inputs(name, size(name), 3, as_bytes=True), inputs(name, size(name), 3)
    with torch.no_grad():
        wanted = network(name)(torch.from_numpy(images)).add(1).mul(127.5).permute(0, 2, 3, 1).numpy()
    found = onnx_runner(content(name, as_bytes=True), 1)(pixels)
    assert found.dtype == np.uint8
    assert np.abs(found - wanted).max() < 0.75  # rounded
    assert found.std() > 1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), void=st.booleans(), instances=st.booleans())
def test_label_maps_from_bytes_are_those_of_the_data(seed, void, instances):
    pixels = inputs("spade", (32, 40), 2, as_bytes=True, seed=seed)
    wanted = inputs("spade", (32, 40), 2, seed=seed)
    channels = [*range(4), *([4] if void else []), *([5] if instances else [])]
    made = OfBytes(nn.Identity(), Labels(4, void, instances))
    encoded = made._encode(torch.from_numpy(pixels).permute(0, 3, 1, 2).int())
    assert np.array_equal(encoded.numpy(), wanted[:, channels])


@pytest.mark.parametrize(("one", "other"), [(1, 256), (255, 256), (256, 257), (256, 512), (65280, 255)])
@pytest.mark.parametrize("turned", [False, True])
def test_instances_that_differ_in_either_byte_have_a_boundary(one, other, turned):
    numbers = torch.tensor([[one, one, other, other]]).expand(3, 4)
    numbers = numbers.t() if turned else numbers
    pixels = torch.stack([0 * numbers, numbers % 256, numbers // 256])[None].int()
    boundary = OfBytes(nn.Identity(), LABELLING)._encode(pixels)[0, -1]
    assert (boundary.t() if turned else boundary).tolist() == 3 * [[0.0, 1.0, 1.0, 0.0]]


@pytest.mark.parametrize("name", ["resnet", "spade", "unet"])
def test_every_precision_is_run_back_and_described(name, tmp_path):
    made = deploy(deployable(name), ["onnx", "fp16", "int8"], tmp_path, lambda runner: {"fid/test": 1.5})
    assert made == json.loads((tmp_path / "files.json").read_text()) == read_files(tmp_path)
    single, half, bytes_ = (made[f"compressed{ending}.onnx"] for ending in ("", ".fp16", ".int8"))
    assert single["largest"] < 0.1
    assert half["largest"] < 5
    assert bytes_["mean"] < 30
    assert single["bytes"] > 1.2 * half["bytes"]
    assert [each.get("fid/test") for each in (single, half, bytes_)] == [None, None, 1.5]
    for file in made:
        model = onnx.load(tmp_path / file)
        onnx.checker.check_model(model, full_check=True)
        text = {each.key: each.value for each in model.metadata_props}["architecture"]
        assert Architecture.model_validate_json(text) == architecture(name)
        shapes = [[axis.dim_param or axis.dim_value for axis in each.type.tensor_type.shape.dim] for each in
                  (*model.graph.input, *model.graph.output)]  # fmt: skip
        assert shapes == [["batch", BLUEPRINTS[name].in_channels, *size(name)], ["batch", 3, *size(name)]]
    kinds = [node.op_type for node in onnx.load(tmp_path / "compressed.int8.onnx").graph.node]
    assert "DequantizeLinear" in kinds
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_export_is_the_same_each_time():
    assert FORMATS["onnx"].write(deployable("mobile")) == content("mobile")


def test_a_program_takes_any_batch_and_size_and_needs_torch_alone(tmp_path):
    deploy(deployable("mobile", dynamic=True), ["pt2"], tmp_path)
    extra = {"architecture": ""}
    program = torch.export.load(tmp_path / "compressed.pt2", extra_files=extra).module()
    assert Architecture.model_validate_json(extra["architecture"]) == architecture("mobile")
    for shape in ((8, 8), (20, 48)):
        x = torch.from_numpy(inputs("mobile", shape, 3))
        with torch.no_grad():
            assert torch.allclose(program(x), network("mobile")(x), atol=1e-5)


def test_a_program_of_a_spade_generator_reads_bytes():
    x = inputs("spade", size("spade"), 1, as_bytes=True)
    wanted = network_runner(deployable("spade", as_bytes=True).wrapped)(x)
    assert np.array_equal(program_runner(content("spade", as_bytes=True, kind="pt2"))(x), wanted)


class Unexportable(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x).real


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Unexportable(), r"layer 1\.0 \(Unexportable\) cannot be exported"),
        (nn.Linear(7, 7), r"layer 1\.0 \(Linear; fa"),
    ],
)
def test_a_layer_that_cannot_be_exported_is_named(layer, words):
    broken = nn.Sequential(nn.ReLU(), nn.Sequential(layer))
    with pytest.raises(InputError, match=words) as error:
        to_onnx(broken, torch.zeros(1, 3, 8, 8), Interface((8, 8)), 17)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("opset", [12, 21])
def test_an_opset_out_of_range_is_refused(opset):
    with pytest.raises(InputError, match=f"--opset {opset}: expected 13 to 20"):
        FORMATS["onnx"].write(deployable("resnet", opset=opset))


@pytest.mark.parametrize("opset", [13, 20])
def test_the_outermost_opsets_work(opset, tmp_path):
    assert deploy(deployable("mobile", opset=opset), ["onnx"], tmp_path)["compressed.onnx"]["opset"] == opset


def test_a_runtime_that_is_too_old_or_missing_is_one_line():
    model = onnx.load_from_string(content("resnet"))
    model.opset_import[0].version = 99
    with pytest.raises(InputError, match=f"ONNX Runtime {onnxruntime.__version__} cannot run the model") as error:
        session(model.SerializeToString())
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"onnx_none: cannot be loaded .* pip install onnx_none"):
        module("onnx_none.part")


@pytest.mark.parametrize(
    ("name", "shape"), [("resnet", (30, 32)), ("spade", (64, 48)), ("resnet", (4, 4)), ("unet", (32, 48))]
)
def test_a_size_that_does_not_fit_is_refused(name, shape):
    with pytest.raises(InputError, match=f"size: got {shape[0]} x {shape[1]}; a .* needs height and width"):
        deployable(name, interface=Interface(shape))


@pytest.mark.parametrize("labels", [None, Labels(3, LABELLING.void, LABELLING.instances)])
def test_bytes_of_label_maps_need_their_meaning(labels):
    with pytest.raises(InputError, match="bytes: the generator reads label maps of 6 channels"):
        deployable("spade", interface=Interface((64, 64), as_bytes=True, labels=labels))


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    (tmp_path / "compressed.onnx").write_bytes(b"old")
    made = deployable("resnet")
    assert made.model  # of the network as it was
    with torch.no_grad():
        made.wrapped.model[-2].bias.add_(0.1)
    with pytest.raises(TrainingError, match=r"compressed\.onnx: its images differ .* by up to \d"):
        deploy(made, ["onnx"], tmp_path)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("compressed.onnx", b"old")]


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot be written"):
        deploy(deployable("mobile"), ["onnx"], tmp_path / "file")
    assert [path.name for path in Path(tmp_path).iterdir()] == ["file"]


def test_int8_needs_images():
    with pytest.raises(InputError, match="int8: no training images"):
        FORMATS["int8"].write(deployable("resnet", calibration=None))
    with pytest.raises(InputError, match="int8: "):
        FORMATS["int8"].write(deployable("resnet", calibration=list))


@pytest.mark.parametrize("content", ['{"cut": ', "[1]"])
def test_a_damaged_list_of_files_is_named_before_any_work(content, tmp_path):
    (tmp_path / "files.json").write_text(content)
    with pytest.raises(InputError, match=r"files\.json: .*remove the file"):
        deploy(deployable("mobile"), ["onnx"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["files.json"]


def test_a_program_that_could_not_take_the_run_s_own_size_is_refused():
    least = deployable("mobile spade", dynamic=True, interface=Interface((32, 64), dynamic=True))
    with pytest.raises(InputError, match="pt2 of any size: takes 64 pixels a side or more; got 32 x 64"):
        FORMATS["pt2"].write(least)


def test_a_network_that_has_broken_down_is_not_compared():
    broken = network_runner(nn.Conv2d(1, 1, 1).requires_grad_(False))
    x = np.full((1, 1, 4, 4), np.nan, np.float32)
    with pytest.raises(TrainingError, match="file: the network's own images are not finite"):
        difference("file", np.nan_to_num, broken, [x])


@pytest.mark.parametrize(("dtype", "unit"), [(np.float32, 1 / 127.5), (np.uint8, 1)])
def test_a_difference_is_told_image_by_image_in_grey_levels(dtype, unit):
    wanted = np.full((3, 2, 4, 4), 100, dtype) if dtype == np.uint8 else np.zeros((3, 2, 4, 4), dtype)
    found = wanted.copy()
    found[1, 1, 2, 3] -= dtype(8 * unit)
    found[2, 0] += dtype(2 * unit)
    batches = [np.array([0, 1]), np.array([2])]
    network, runner = (lambda x, images=images: images[x] for images in (wanted, found))
    apart = difference("file", runner, network, batches)
    np.testing.assert_allclose(apart.largest, [0, 8, 2], rtol=1e-5)
    np.testing.assert_allclose(apart.mean, [0, 8 / 32, 1], rtol=1e-5)


def layers_of(model, kind):
    """The nodes of a kind, in the order of computation."""
    return [node for node in model.graph.node if node.op_type == kind]


@pytest.mark.parametrize("name", ["resnet", "mobile", "unet", "spade"])
def test_norms_and_convolutions_of_the_network_are_those_of_the_file(name):
    """A file that computed its norms of many small operators would be several times slower, and give the same image."""
    modules = list(network(name).modules())
    norms = [module for module in modules if isinstance(module, nn.InstanceNorm2d)]
    found = layers_of(onnx.load_from_string(content(name)), "InstanceNormalization")
    assert len(found) == len(norms)
    assert (len(norms) > 0) == (name != "spade")


@pytest.mark.parametrize("name", ["resnet", "unet", "spade", "mobile"])
def test_the_first_the_last_and_depthwise_convolutions_stay_in_float32(name):
    model = onnx.load_from_string(content(name, kind="int8"))
    weights = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    convolutions = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    grouped = [any(each.name == "group" and each.i > 1 for each in node.attribute) for node in convolutions]
    exact = [node.input[1] in weights for node in convolutions]
    transposed = [node.op_type == "ConvTranspose" for node in convolutions]
    ends = [index in (0, len(convolutions) - 1) for index in range(len(convolutions))]
    wanted = [a or b or c for a, b, c in zip(grouped, transposed, ends, strict=True)]
    assert exact == wanted
    assert not all(exact)


def arrays(model):
    """The constants of a model by name."""
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("name", ["resnet", "mobile"])
def test_int8_weights_have_a_scale_a_channel_and_seven_bits(name):
    model = onnx.load_from_string(content(name, kind="int8"))
    constants, seen = arrays(model), 0
    for node in layers_of(model, "DequantizeLinear"):
        values = constants.get(node.input[0])
        if values is None or values.ndim != 4:
            continue
        seen += 1
        assert values.dtype == np.int8
        assert constants[node.input[1]].shape == (len(values),)
        assert np.abs(values).reshape(len(values), -1).max(1).tolist() == [64] * len(values)
    assert seen > 0
    zeros = [constants[node.input[2]] for node in layers_of(model, "QuantizeLinear")]
    assert zeros
    assert all(zero.dtype == np.uint8 and zero.shape == () for zero in zeros)


def test_int8_activations_take_the_mean_range_of_the_calibration_images():
    """One image that is unlike all others does not decide alone."""
    ordinary = inputs("resnet", (32, 32), 1)
    unlike = 0 * ordinary

    def scales(images):
        model = onnx.load_from_string(FORMATS["int8"].write(deployable("resnet", calibration=lambda: images)))
        constants = arrays(model)
        return np.array([constants[node.input[1]] for node in layers_of(model, "QuantizeLinear")], np.float64)

    mixed, alone = scales([ordinary, unlike]), [scales([image]) for image in (ordinary, unlike)]
    np.testing.assert_allclose(mixed, np.mean(alone, 0), rtol=1e-4)
    assert (np.max(alone, 0) > 1.01 * mixed).any()


def even(name, kind):
    """The image that is white but for a corner, and its kin, as bytes ``1 x H x W x C``."""
    height, width = size(name)
    pixels = np.full(
        (1, height, width, BLUEPRINTS[name].in_channels), {"black": 0, "grey": 128}.get(kind, 255), np.uint8
    )
    if kind == "corner":
        pixels[:, :3, :3] = 90
    if kind == "one pixel of 254":
        pixels[:, height // 2, width // 2] = 254
    return pixels


EVEN = ["white", "black", "grey", "corner", "one pixel of 254"]


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize("name", ["resnet", "mobile", "unet"])
def test_even_images_fail_no_export(name, as_bytes, tmp_path):
    images = [even(name, kind) for kind in EVEN]
    if not as_bytes:
        images = [(x.transpose(0, 3, 1, 2) / np.float32(127.5) - 1).astype(np.float32) for x in images]
    made = deploy(deployable(name, as_bytes=as_bytes, images=images), ["onnx"], tmp_path)
    (described,) = made.values()
    assert described["pictures"] == 5
    assert described["largest"] <= (1 if as_bytes else 0.1)
    assert described["rounding"] <= CONDITIONED
    if name != "unet":  # whose innermost levels are too small to be even
        assert "compared without " in described["remark"]
        assert "of 5 test images: rounding alone moves them by up to" in described["remark"]
    assert json.loads((tmp_path / "files.json").read_text()) == made


@pytest.mark.parametrize("name", BLUEPRINTS)
@pytest.mark.parametrize("as_bytes", [False, True])
def test_what_other_runtimes_do_is_far_below_what_is_allowed(name, as_bytes):
    made = deployable(name, as_bytes=as_bytes)
    apart = difference("file", onnx_runner(content(name, as_bytes=as_bytes)), network_runner(made.wrapped), made.tried)
    assert (made.rounding <= CONDITIONED).all()
    assert (apart.largest <= (1 if as_bytes else FORMATS["onnx"].limit / 4)).all()


def corrupted(model, change):
    """The model with one weight of its last convolution changed."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    last = [node for node in changed.graph.node if node.op_type in ("Conv", "ConvTranspose")][-1]
    tensor = next(each for each in changed.graph.initializer if each.name == last.input[1])
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] = change(values.flat[0])
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return changed


@pytest.mark.parametrize("images", ["of all kinds", "even"])
@pytest.mark.parametrize("name", ["resnet", "unet", "spade"])
def test_a_wrong_graph_is_refused_whatever_the_images_are(name, images, tmp_path):
    changes = {}
    if images == "even" and name != "spade":
        x = even(name, "white").transpose(0, 3, 1, 2) / np.float32(127.5) - 1
        changes["images"] = [x.astype(np.float32)]
    made = deployable(name, **changes)
    made.__dict__["model"] = corrupted(made.model, lambda weight: weight + 0.1)
    with pytest.raises(TrainingError, match=r"compressed\.onnx: its images differ from the network's by up to"):
        deploy(made, ["onnx"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_compared_the_file_has_a_remark(tmp_path):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 3, 1), *(layer for _ in range(8) for layer in (nn.InstanceNorm2d(3), nn.Conv2d(3, 3, 1)))]
    nn.init.zeros_(layers[0].weight)  # every plane is even, whatever comes in
    for layer in layers[2::2]:
        nn.init.normal_(layer.weight, 0, 3)
    made = deployable("resnet", network=nn.Sequential(*layers, nn.Tanh()))
    described = deploy(made, ["onnx"], tmp_path)["compressed.onnx"]
    assert described["remark"].startswith("not compared with the network: no input is left")
    assert described["rounding"] > CONDITIONED
    assert (tmp_path / "compressed.onnx").is_file()


def test_a_file_that_cannot_be_made_does_not_keep_the_others(tmp_path):
    made = deployable("resnet", calibration=None)
    with pytest.raises(
        InputError, match=r"int8: no training images .*; written: compressed\.onnx, compressed\.fp16\.onnx"
    ):
        deploy(made, ["onnx", "int8", "fp16"], tmp_path)
    names = {"compressed.onnx", "compressed.fp16.onnx"}
    assert set(json.loads((tmp_path / "files.json").read_text())) == names
    assert {path.name for path in tmp_path.iterdir()} == {*names, "files.json"}
