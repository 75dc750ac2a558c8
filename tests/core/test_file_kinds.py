"""A file is told what it is, and never called damaged or cut short unless it is."""

import gzip
import io
import json
import os
import pickle
import tarfile
import zipfile

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from ganc_nni.core.errors import InputError
from ganc_nni.core.file_kinds import EXPECTED
from ganc_nni.core.io import load_weights

STATE = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3)}


def zipped(compression=zipfile.ZIP_STORED, /, **members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(*names):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return buffer.getvalue()


def image(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, kind)
    return buffer.getvalue()


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def safe(tmp_path):
    save_file(STATE, tmp_path / "s")
    return (tmp_path / "s").read_bytes()


def torchscript():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def program():
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), buffer)
    return buffer.getvalue()


def onnx_model():
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    return onnx.helper.make_model(graph, producer_name="pytorch").SerializeToString()


def numpy_bytes(save, *arguments):
    buffer = io.BytesIO()
    save(buffer, *arguments)
    return buffer.getvalue()


OTHERS = {
    "TorchScript": (torchscript, "a TorchScript archive"),
    "torch.export": (program, "a program of torch.export (.pt2)"),
    "ONNX": (onnx_model, "an ONNX model"),
    "ONNX without producer": (
        lambda: onnx.ModelProto(ir_version=9, graph=onnx.GraphProto(name="g")).SerializeToString(),
        "an ONNX model",
    ),
    "SavedModel": (lambda: b"\x08\x01\x12\x05\x0a\x03abc", "a TensorFlow SavedModel"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(88), "an HDF5 file, as Keras and TensorFlow save weights"),
    "Keras": (lambda: zipped(**{"config.json": "{}", "model.weights.h5": "x"}), "a Keras model"),
    "TFLite": (lambda: b"\x1c\0\0\0TFL3" + bytes(9), "a TensorFlow Lite model"),
    "npy": (lambda: numpy_bytes(np.save, np.ones(3)), "a NumPy array (.npy)"),
    "npz": (lambda: numpy_bytes(np.savez, np.ones(3)), "an archive of NumPy arrays (.npz: arr_0.npy)"),
    "pickle": (lambda: pickle.dumps({"a": [1.0, 2.0]}), "a Python pickle that torch.save did not write"),
    "pickle with code": (
        lambda: pickle.dumps({"a": np.ones(2)}),
        "a Python pickle that torch.save did not write and holds code (numpy.",
    ),
    "pickle of protocol 2": (
        lambda: pickle.dumps(print, 2),
        "a Python pickle that torch.save did not write and holds code (__builtin__.print)",
    ),
    "images": (
        lambda: zipped(**{"a/1.png": "x", "a/2.png": "x", "a/3.png": "x"}),
        "a zip archive of images (a/1.png, a/2.png and 1 more)",
    ),
    "packed": (
        lambda: zipped(zipfile.ZIP_DEFLATED, **{"a/data.pkl": "x" * 10**7, "a/version": "3"}),
        "a torch file that was packed again, 9 MiB unpacked",
    ),
    "zipped weights": (lambda: zipped(**{"net/G.pth": "x"}), "a zip archive that holds net/G.pth"),
    "source": (lambda: zipped(**{"main.py": "x"}), "a zip archive (main.py)"),
    "empty zip": (zipped, "an empty zip archive"),
    "tar": (lambda: tarred("G.pth", "D.pth"), "a tar archive (G.pth, D.pth)"),
    "torch 0.1": (lambda: tarred("sys_info", "pickle", "storages", "tensors"), "a torch file of a version before 0.2"),
    "gzip": (lambda: gzip.compress(tarred("G.pth")), "a gzip archive"),
    "HTML": (lambda: b"\n<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title>", "an HTML page"),
    "HTML in Latin-1": (lambda: b"<HTML><title>d\xe9j\xe0</title>", "an HTML page"),
    "HTML after a comment": (lambda: b"<!-- x --><html lang=en>", "an HTML page"),
    "XML": (lambda: b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML text"),
    "LFS": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "a Git LFS pointer"),
    "annex": (lambda: b"/annex/objects/MD5-s9--00", "a git-annex pointer"),
    "DVC": (lambda: b"outs:\n- md5: 00\n  path: G.pth\n", "a DVC pointer"),
    "JSON": (lambda: b'{"down_0": {"_type": "choice"}}', "a JSON text"),
    "index": (lambda: b'{"metadata": {}, "weight_map": {"a": "b"}}', "the index of a checkpoint in several files"),
    "YAML": (lambda: b"data:\n  layout: paired\n", "a YAML text ('data: layout: paired')"),
    "text": (lambda: b"please log in\n", "a text ('please log in')"),
    "escapes": (lambda: "\x1b[31mGefäß\n".encode(), "a text ('\\x1b[31mGef\\xe4\\xdf')"),
    "UTF-16": (lambda: "log in\n".encode("utf-16"), "a text ('log in')"),
    "PNG": (lambda: image("PNG"), "an image (PNG)"),
    "JPEG": (lambda: image("JPEG"), "an image (JPEG)"),
    "BMP": (lambda: image("BMP"), "an image (BMP)"),
    "TIFF": (lambda: image("TIFF"), "an image (TIFF)"),
    "WebP": (lambda: image("WEBP"), "an image (WebP)"),
    "GIF": (lambda: image("GIF"), "an image (GIF)"),
    "PDF": (lambda: b"%PDF-1.7", "a PDF document"),
    "program": (lambda: b"\x7fELF\2\1\1", "a program or library"),
    "Lua": (lambda: b"\4\0\0\0\1\0\0\0\3\0\0\0V 1\x0f\0\0\0", "a file of Lua Torch"),
    "zeros": (lambda: bytes(5000), "a file that begins with zeros only, as an unfinished download leaves it"),
    "empty": (lambda: b"", "an empty file"),
    "unknown": (lambda: b"\xf0\xe1\xd2\xc3\xb4\xa5", "of no known kind"),
}


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_file_of_weights_is_called_what_it_is(tmp_path, kind, ending):
    make, words = OTHERS[kind]
    path = tmp_path / f"w.{ending}"
    path.write_bytes(make())
    with pytest.raises(InputError) as error:
        load_weights(path)
    message = str(error.value)
    assert message.startswith(f"{path}: cannot be read as weights: it is {words}")
    assert EXPECTED in message
    assert not any(word in message for word in ("damaged", "cut short", "missing", "\n", "\x1b"))
    assert message.isascii()


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "w.pth")
    with pytest.raises(InputError, match="it is a device, pipe or socket"):
        load_weights(tmp_path / "w.pth")


FOLDERS = {
    "diffusers": (["model_index.json", "unet/config.json"], "a folder of a diffusers pipeline"),
    "sharded": (["model.safetensors.index.json"], "a folder with a checkpoint in several files"),
    "SavedModel": (["saved_model.pb"], "a folder of a TensorFlow SavedModel"),
    "unpacked": (["data.pkl", "data/0"], "a folder with an unpacked torch file"),
    "run": (["export/compressed.safetensors"], "the folder of a run"),
    "weights": (["b.pth", "a.pth", "c.ckpt"], "a folder; .*; give a file in it: a.pth, b.pth and 1 more"),
    "empty": ([], "a folder; "),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_is_called_what_it_is(tmp_path, kind):
    names, words = FOLDERS[kind]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=f"cannot be read as weights: it is {words}"):
        load_weights(tmp_path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_of_weights_that_is_cut_anywhere_is_told_so(tmp_path, kind):
    whole = {
        "zip": lambda: saved(STATE),
        "legacy": lambda: saved(STATE, _use_new_zipfile_serialization=False),
        "safetensors": lambda: safe(tmp_path),
    }[kind]()
    path = tmp_path / "w.pth"
    path.write_bytes(whole)
    assert load_weights(path).keys() == STATE.keys()
    for kept in {9, 16, 40, *(len(whole) * part // 20 for part in range(1, 20)), len(whole) - 1}:
        path.write_bytes(whole[:kept])
        with pytest.raises(InputError) as error:
            load_weights(path)
        words = {"safetensors": "a safetensors file"}.get(kind, "a torch file")
        if kind == "zip" and kept <= 40:
            words = "a zip archive, as torch files are,"
        assert f"it is {words} that is cut short" in str(error.value), kept
        assert "download it again" in str(error.value)


@pytest.mark.parametrize("names", [("1.png", "2.png"), ("G.pth",)])
def test_another_archive_that_is_cut_is_told_so(tmp_path, names):
    path = tmp_path / "w.pth"
    path.write_bytes(zipped(**dict.fromkeys(names, "x" * 99))[:80])
    with pytest.raises(InputError, match=rf"it is a zip archive \({names[0]} ...\) that is cut short"):
        load_weights(path)


def test_a_damaged_file_is_told_so(tmp_path):
    path = tmp_path / "w.pth"
    content = safe(tmp_path)
    path.write_bytes(content[:9] + b"?" + content[10:])
    with pytest.raises(InputError, match="a safetensors file with a damaged header"):
        load_weights(path)
    path.write_bytes(saved(STATE).replace(b"torch._utils", b"torch._utilz"))
    with pytest.raises(InputError, match=r"it holds code \(torch\._utilz"):
        load_weights(path)


CONTENTS = {
    "optimiser": (torch.optim.Adam([nn.Parameter(torch.ones(2))]).state_dict(), "is the state of an optimiser"),
    "training": (
        {"epoch": 3, "netG": STATE, "netD": STATE, "optimizer": torch.optim.SGD([nn.Parameter()]).state_dict()},
        "is a training's checkpoint that holds netG, netD, optimizer; expected a state dict",
    ),
    "MUNIT": ({"a": STATE, "b": STATE}, "is a training's checkpoint that holds a, b;"),
    "escapes": ({"\x1b[1m": STATE}, r"holds \\x1b\[1m;"),
    "deeper": ({"state": {"netG": STATE}}, "is a training's checkpoint that holds state"),
    "no values": ({"a": torch.ones(2, device="meta")}, "a has a shape but no values; expected"),
    "sparse": ({"a": torch.ones(2).to_sparse()}, "a is a sparse tensor; expected"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("kind", CONTENTS)
def test_what_a_torch_file_holds_is_told(tmp_path, kind):
    content, words = CONTENTS[kind]
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match=words) as error:
        load_weights(tmp_path / "w.pth")
    assert "expected" in str(error.value)
    assert not any(word in str(error.value) for word in ("damaged", "cut short", "\n", "\x1b"))


@pytest.mark.parametrize("location", ["cuda:0", "cuda:7", "mps", "xla"])
def test_tensors_saved_on_a_device_that_is_not_here_are_read(tmp_path, monkeypatch, location):
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: location)
    torch.save(STATE, tmp_path / "w.pth")
    found = load_weights(tmp_path / "w.pth")
    assert all(torch.equal(found[key], value) and found[key].device.type == "cpu" for key, value in STATE.items())


def test_metadata_named_otherwise_are_found(tmp_path):
    from ganc_nni.core.io import load_metadata

    save_file(STATE, tmp_path / "w.pth", {"k": json.dumps({})})
    assert load_metadata(tmp_path / "w.pth") == {"k": "{}"}


def test_weights_that_do_not_fit_their_checksum_are_refused(tmp_path):
    path, content = tmp_path / "w.pth", saved({"a": torch.full((64,), 0.5)})
    at = content.index(torch.full((64,), 0.5).numpy().tobytes())
    path.write_bytes(content)
    assert load_weights(path)["a"].unique().tolist() == [0.5]
    path.write_bytes(content[:at] + b"\1" + content[at + 1 :])
    with pytest.raises(InputError, match=r"is damaged .*CRC"):
        load_weights(path)
