import dataclasses
import logging
import shutil

import numpy as np
import pytest
from PIL import Image
from test_pipeline import ALL
from tiny import recipe, write_space

from ganc_nni.core import hashes
from ganc_nni.core.errors import TrainingError
from ganc_nni.core.io import write_text
from ganc_nni.core.structured import LARGEST_JSON
from ganc_nni.generators import spade
from ganc_nni.run import Run
from ganc_nni.stages.inputs import Content, Inputs
from ganc_nni.stages.pipeline import STAGES, Pipeline

PARTS = {"unpaired": ("trainA", "trainB", "testA", "testB"), "paired": ("train", "test")}
LABELS = tuple(f"{part}_{kind}" for part in ("train", "test") for kind in ("label", "img", "inst"))


def image(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.parent.name
    shape = (8, 16, 3) if not kind.endswith(("label", "inst")) else (8, 16)
    pixels = np.random.default_rng(seed).integers(0, 4, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with images of every layout in ``data/LAYOUT``, a checkpoint and other files."""
    monkeypatch.setattr(hashes, "SETTLED", -1.0)
    monkeypatch.chdir(tmp_path)
    write_space(tmp_path / "space.json")
    write_space(tmp_path / "spade.json", labels=spade.LABELS)
    for layout, folders in {**PARTS, "labels": LABELS}.items():
        for folder in folders:
            for number in range(12):
                image(tmp_path / "data" / layout / folder / f"{number}.png", len(folder) * 100 + number)
    return tmp_path


def pipeline(layout="unpaired", **sections):
    data = {"layout": layout, "root": f"data/{layout}", "search_fraction": 0.4, "procedural_images": 256}
    more = {}
    if layout == "labels":
        data |= {"classes": 4, "instances": True, "image_size": [64, 64]}
        more = {"generator": {"family": "spade", "upsampling": "normal"}, "student": {"space": "spade.json"}}
    data |= sections.pop("data", {})
    return Pipeline(Run(recipe("space.json", data=data, **more, **sections)))


def keys(*args, **sections):
    made = pipeline(*args, **sections)
    return {stage: made.key(stage) for stage in made.stages("export")}


def changed(before, after):
    return {stage for stage in before if before[stage] != after[stage]}


def of_split(layout, split):
    """The files of one split."""
    data = pipeline(layout).run.data
    return {"train": data.still, "search": data.search, "test": data.test}[split].content_paths()


@pytest.mark.parametrize("layout", ["unpaired", "paired", "labels"])
def test_the_place_of_the_images_does_not_count(place, layout, monkeypatch):
    before = keys(layout)
    (place / "data").rename(place / "moved")
    assert keys(layout, data={"root": f"moved/{layout}"}) == before
    assert keys(layout, data={"root": str(place / "moved" / layout)}) == before
    monkeypatch.setenv("GANC_DATA", str(place / "moved"))
    assert keys(layout, data={"root": layout}) == before


@pytest.mark.parametrize(
    ("split", "stages"),
    [("train", set(ALL)), ("search", set(ALL)), ("test", {"export"})],
    ids=["train", "search", "test"],
)
@pytest.mark.parametrize("layout", ["unpaired", "paired", "labels"])
def test_every_image_counts_where_it_is_read(place, layout, split, stages):
    before = keys(layout)
    for number, path in enumerate(of_split(layout, split)):
        content = path.read_bytes()
        image(path, 9000 + number)
        assert changed(before, keys(layout)) == stages, path
        path.write_bytes(content)
        assert keys(layout) == before
    assert number > 0


def test_a_name_counts_through_the_order_alone(place):
    before, paths = keys("paired"), of_split("paired", "test")
    last = max(paths)
    last.rename(last.with_name(f"{last.stem}x.png"))
    assert keys("paired") == before
    last.with_name(f"{last.stem}x.png").rename(last.with_name("0a.png"))
    assert changed(before, keys("paired")) == {"export"}


def test_a_list_counts_through_the_sides_that_it_makes(place):
    lists = [place / "a.meta", place / "b.meta"]
    for path in lists:
        path.write_text("3.png\n4.png\n")
    before = keys(data={"search_list": "a.meta"})
    assert keys(data={"search_list": "b.meta", "search_fraction": 0.1}) == before
    lists[1].write_text("# held out\n4.png\n\n3.png\n")
    assert keys(data={"search_list": "b.meta"}) == before
    lists[1].write_text("3.png\n5.png\n")
    made = pipeline(data={"search_list": "b.meta"})
    assert made.key("teacher") != before["teacher"]
    (change,) = made.inputs("teacher").changes(pipeline(data={"search_list": "a.meta"}).inputs("teacher"))
    assert change == (
        "images: 4 moved between training and search split (trainA/4.png, trainB/4.png, trainA/5.png and 1 more)"
    )


FILES = {
    "teacher.checkpoint": ("teacher", {}),
    "teacher.perceptual_weights": ("teacher", {}),
    "distillation.perceptual_weights": ("supernet", {}),
    "metric.weights": ("teacher", {"name": "fid"}),
    "search.latency_table": ("search", {}),
}


@pytest.mark.parametrize("key", FILES)
def test_files_that_a_recipe_names_count_by_content(place, key):
    section, _, name = key.partition(".")
    first, more = FILES[key]

    def named(path):
        return keys(**{section: {name: path, **more}})

    for path, content in (("one", b"1"), ("copy", b"1"), ("two", b"2")):
        (place / path).write_bytes(content)
    before = named("one")
    assert named("copy") == before
    assert changed(before, named("two")) == set(ALL[ALL.index(first) :])
    (place / "one").write_bytes(b"2")
    assert named("one") == named("two")
    made, old = (pipeline(**{section: {name: path, **more}}) for path in ("two", "copy"))
    assert made.inputs("export").changes(old.inputs("export")) == [f"{key} was copy, is two"]


def test_the_weights_that_are_found_in_the_usual_places_count(place, monkeypatch):
    fid = {"metric": {"name": "fid"}}
    monkeypatch.setenv("TORCH_HOME", str(place / "torch"))
    without = keys(**fid)
    hub = place / "torch" / "hub" / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth"
    hub.parent.mkdir(parents=True)
    hub.write_bytes(b"1")
    found = keys(**fid)
    assert changed(without, found) == set(ALL)
    (place / "named").write_bytes(b"1")
    assert keys(metric={"name": "fid", "weights": "named"}) == found


def test_a_copied_space_is_the_same(place):
    before = keys()
    shutil.copy(place / "space.json", place / "copy.json")
    assert keys(student={"space": "copy.json"}) == before


def made(pipe, stages=ALL[:3]):
    """Stages that say that they are done."""
    for stage in stages:
        pipe.prepare(stage)
        write_text(pipe.run.folder / stage / "made.txt", stage)
        pipe.finish(stage, {"score": 1.0}, 0.0)
    return pipe


def lines(caplog, pipe, stage):
    """What is said when a stage is made ready."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "ganc_nni.stages.pipeline"):
        pipe.prepare(stage)
    return [record.message for record in caplog.records]


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"teacher": {"width": 4}}, "teacher.width was 8, is 4"),
        ({"seed": 1}, "seed was 0, is 1; images: "),
        ({"data": {"search_fraction": 0.2}}, "data.search_fraction was 0.4, is 0.2; images: "),
        (
            {"data": {"root": None}},
            "data.procedural_images was not given, is 256; data.root was a folder, is drawn; images: ",
        ),
    ],
    ids=str,
)
def test_what_has_changed_in_the_recipe_is_said(place, caplog, sections, line):
    made(pipeline())
    assert lines(caplog, pipeline(**sections), "teacher")[0].startswith(f"stage teacher is made again: {line}")


def test_which_images_have_changed_is_said_and_their_scores_come_back_with_them(place, caplog):
    pipe = made(pipeline())
    paths = of_split("unpaired", "search")
    contents = [path.read_bytes() for path in paths[:4]]
    for number, path in enumerate(paths[:4]):
        image(path, 777 + number)
    paths[-1].rename(paths[-1].with_suffix(".gone"))
    image(place / "data/unpaired/trainA/new.png", 5)
    for stage in ("teacher", "supernet", "search"):
        assert not pipeline().done(stage)
        line = lines(caplog, pipeline(), stage)[0]
        names = ", ".join(path.relative_to("data/unpaired").as_posix() for path in paths[:3])
        assert line == (
            f"stage {stage} is made again: images: 4 replaced ({names} and 1 more), 1 added (trainA/new.png), "
            f"1 removed ({paths[-1].parent.name}/{paths[-1].name})"
        )
        assert not (pipe.run.folder / stage / "made.txt").exists()
    (place / "data/unpaired/trainA/new.png").unlink()
    paths[-1].with_suffix(".gone").rename(paths[-1])
    for path, content in zip(paths, contents, strict=False):
        path.write_bytes(content)
    for stage in ("teacher", "supernet", "search"):
        pipeline().prepare(stage)
        assert pipeline().done(stage)
        assert (pipe.run.folder / stage / "made.txt").exists()


def test_of_old_run_folders_it_is_said_why_they_are_made_anew(place, caplog):
    folder = made(pipeline()).run.folder / "teacher"
    (folder / "inputs.json").unlink()
    write_text(folder / "stage.json", '{"key": "0123456789ab", "seconds": 1.0, "score": 1.0}')
    write_text(folder / "begun.txt", "0123456789ab")
    said = lines(caplog, pipeline(), "teacher")
    assert said[0] == (
        "stage teacher is made again: an earlier version has made it, which did not note the content of what it read"
    )
    assert (folder.with_name("teacher.0123456789ab") / "made.txt").is_file()


@pytest.mark.parametrize("when", ["while it was made", "since this command began"])
def test_what_changes_meanwhile_is_never_taken_for_finished(place, monkeypatch, when):
    path = of_split("unpaired", "train")[2]
    content, calls = path.read_bytes(), []

    def train(run, report):
        calls.append(run)
        write_text(run.folder / "teacher" / "made.txt", "half of each")
        if len(calls) == 1 and when == "while it was made":
            image(path, 4321)
        return {"score": 1.0}

    monkeypatch.setitem(STAGES, "teacher", dataclasses.replace(STAGES["teacher"], run=train))
    pipe = pipeline()
    assert not pipe.done("teacher")
    if when == "since this command began":
        image(path, 4321)
    with pytest.raises(TrainingError, match=rf"stage teacher: what it reads has changed {when}: images: 1 replaced \("):
        pipe.run_stage("teacher")
    assert not pipe.done("teacher")
    assert not pipeline().done("teacher")
    path.write_bytes(content)  # of what has been made meanwhile nothing is used, not even then
    assert not pipeline().done("teacher")
    pipeline().prepare("teacher")
    assert not (pipe.run.folder / "teacher" / "made.txt").exists()
    pipeline().run_stage("teacher")
    assert pipeline().done("teacher")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"key": 1}', '{"key": "k", "values": 3, "files": []}', "[" * 99_999]
)
def test_damaged_notes_are_none(tmp_path, content):
    (tmp_path / "inputs.json").write_text(content)
    assert Inputs.load(tmp_path / "inputs.json") is None
    assert Inputs.load(tmp_path / "nowhere.json") is None


def test_what_a_stage_read_is_known_again_however_many_files_that_were(tmp_path):
    files = {"train images": [Content(f"{number}{'x' * 4000}", f"{number:016x}") for number in range(5000)]}
    found = Inputs({"seed": 1}, files)
    found.save(tmp_path / "inputs.json", "key")
    assert (tmp_path / "inputs.json").stat().st_size > LARGEST_JSON
    known = Inputs.load(tmp_path / "inputs.json", "key")
    assert known == found
    assert Inputs({"seed": 2}, files).changes(known) == ["seed was 1, is 2"]
