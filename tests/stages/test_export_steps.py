"""A finished run is never lost to its export: steps fail one by one, the summary is always there."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from PIL import Image
from tiny import recipe

from ganc_nni.cli import stages
from ganc_nni.core.errors import CannotWrite, TrainingError
from ganc_nni.core.io import write_text
from ganc_nni.data import Split
from ganc_nni.report.build import PAGE, make_page
from ganc_nni.report.collect import read_comparison
from ganc_nni.run import Run
from ganc_nni.stages import deploy as deploy_stage
from ganc_nni.stages import export as module
from ganc_nni.stages.export import renew_remarks
from ganc_nni.stages.pipeline import Pipeline

FOLDER = Path("runs/tiny")


def again():
    """Only the export."""
    (FOLDER / "export" / "stage.json").unlink()
    try:
        Pipeline(Run(recipe("space.json"))).run_until("export")
    finally:
        make_page(FOLDER)


@pytest.mark.parametrize(
    ("step", "name", "error", "told"),
    [
        (
            "deploy_run",
            "files for other runtimes",
            TrainingError("compressed.onnx: differs"),
            "compressed.onnx: differs",
        ),
        ("latency_ms", "latency of teacher", MemoryError(), "out of memory (MemoryError); lower data.image_size"),
        ("held_out_scores", "scores of the chosen sub-generator", LookupError("nobody is here"), "nobody is here"),
        ("draw_comparison", "comparison image", ValueError("of a kind\nthat is new"), "of a kind that is new"),
        ("save_images", "pictures", RuntimeError("no colours"), "no colours"),
    ],
)
def test_a_step_that_fails_is_left_out_with_a_remark(finished_copy, monkeypatch, capsys, step, name, error, told):
    def fail(*_):
        raise error

    monkeypatch.setattr(module, step, fail)
    again()
    summary = json.loads((FOLDER / "export" / "summary.json").read_text())
    assert summary["remarks"][name].startswith(f"left out: {told}")
    assert (FOLDER / "export" / "compressed.safetensors").is_file()
    found = read_comparison(FOLDER)
    assert found.remarks == summary["remarks"]
    if step == "latency_ms":
        assert "not measured" in str(found.rows())
    stages._print_table(FOLDER, found)
    assert told.split()[-1] in capsys.readouterr().out.replace("\n", " ")
    assert told.split(";")[0] in (FOLDER / PAGE).read_text()


def test_a_full_disk_is_told_after_the_summary_is_written(finished_copy, monkeypatch):
    def fail(*_):
        raise CannotWrite("images: cannot be written: No space left on device")

    before = json.loads((FOLDER / "export" / "summary.json").read_text())
    (FOLDER / "export" / "summary.json").unlink()
    with monkeypatch.context() as broken:
        broken.setattr(module, "save_images", fail)
        with pytest.raises(CannotWrite, match="No space left"):
            again()
    summary = json.loads((FOLDER / "export" / "summary.json").read_text())
    assert summary["networks"]["teacher"]["score"] == before["networks"]["teacher"]["score"]
    assert not (FOLDER / "export" / "stage.json").exists()
    Pipeline(Run(recipe("space.json"))).run_until("export")
    assert json.loads((FOLDER / "export" / "summary.json").read_text())["remarks"] == {}


def test_remarks_go_when_the_files_are_there(finished_copy):
    path = FOLDER / "export" / "summary.json"
    summary = json.loads(path.read_text())
    assert summary["remarks"] == {}
    remarks = {"files for other runtimes": "left out: x", "pictures": "left out: y", "compressed.onnx": "compared"}
    write_text(path, json.dumps({**summary, "remarks": remarks}))
    renew_remarks(FOLDER / "export", {"compressed.onnx": {}, "compressed.pt2": {"remark": "compared without"}})
    found = json.loads(path.read_text())
    assert found["remarks"] == {"pictures": "left out: y", "compressed.pt2": "compared without"}


def test_a_run_whose_test_images_are_even_is_finished(finished_copy, monkeypatch):
    """One is white but for a corner, one has a pixel of 254, one is black, one is grey."""
    height, width = 32, 32
    images = np.full((8, height, width, 3), 255, np.uint8)
    images[0, :3, :3], images[1, 16, 16], images[2], images[3] = 80, 254, 0, 128
    checked = iter(range(8))

    def even(of_set, index, as_bytes):
        pixels = images[next(checked)]
        return pixels if as_bytes else (pixels.transpose(2, 0, 1) / np.float32(127.5) - 1).astype(np.float32)

    monkeypatch.setattr(deploy_stage, "_input", even)
    again()
    files = json.loads((FOLDER / "export" / "files.json").read_text())
    assert files["compressed.onnx"]["largest"] <= 1
    remark = files["compressed.onnx"]["remark"]
    assert "of 8 test images: rounding alone moves them" in remark
    assert json.loads((FOLDER / "export" / "summary.json").read_text())["remarks"] == {"compressed.onnx": remark}


def test_latency_is_the_median_of_the_passes_after_the_warm_up(monkeypatch):
    seconds, clock = iter([9, 9, 9, 1, 2, 4, 30]), [0.0]

    def network(x):
        clock[0] += next(seconds)

    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    assert module.latency_ms(network, torch.zeros(1), repeats=4, warm_up=3) == 3000


@pytest.mark.parametrize("paired", [True, False])
def test_a_comparison_shows_input_teacher_compressed_and_truth_in_this_order(tmp_path, monkeypatch, paired):
    """Rows are test images from the first to the last, as bright as they are."""
    titles = []
    monkeypatch.setattr(Axes, "set_title", lambda self, title, **_: titles.append(title))

    def plain(red, green, blue):
        return torch.tensor([red, green, blue])[:, None, None].expand(3, 16, 16).float()

    sources = [plain(*3 * [2 * number / 8 - 1]) for number in range(9)]
    split = Split(sources, [plain(-1, 0, 1)] * 9, paired)
    networks = {
        "teacher": lambda x: plain(1, -1, -1).expand(len(x), 3, 16, 16),
        "compressed": lambda x: plain(-1, 1, -1).expand(len(x), 3, 16, 16),
    }
    module.draw_comparison(split, networks, torch.device("cpu"), tmp_path / "picture.png", n_rows=3)
    pixels = np.asarray(Image.open(tmp_path / "picture.png").convert("RGB"))
    rows, columns = 3, 4 if paired else 3
    cells = [
        [pixels[int(pixels.shape[0] * (r + 0.5) / rows), int(pixels.shape[1] * (c + 0.5) / columns)].tolist()]
        for r in range(rows)
        for c in range(columns)
    ]
    wanted = [(255, 0, 0), (0, 255, 0), (0, 127, 255)][: columns - 1]
    expected = [each for grey in (0, 127, 255) for each in (3 * (grey,), *wanted)]
    np.testing.assert_allclose(np.squeeze(cells), expected, atol=1)
    assert titles == ["input", "teacher", "compressed", "truth"][:columns]
