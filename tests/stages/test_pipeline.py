import dataclasses
import json
import threading
import time

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from tiny import SCHEDULE, contents, recipe
from torch.nn.modules.module import register_module_forward_pre_hook

from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.core.io import load_into, load_weights, save_weights, write_text
from ganc_nni.generators.architecture import Architecture
from ganc_nni.run import Run
from ganc_nni.stages.export import read_summary
from ganc_nni.stages.pipeline import PEAKS, STAGES, Pipeline

ALL = tuple(stage for stage in STAGES if stage not in ("segmenter", "pretrain"))  # which this recipe has not


def pipeline(**sections):
    return Pipeline(Run(recipe("space.json", **sections)))


def keys(**sections):
    made = pipeline(**sections)
    return {stage: made.key(stage) for stage in ALL}


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"data": {"cache": False}}, None),
        ({"data": {"workers": 1}}, None),
        ({"metric": {"batch_size": 3}}, None),
        ({"name": "other"}, None),
        ({"finetune": {"epochs": 3}}, "finetune"),
        ({"search": {"timeout": 5, "max_failures": 3}}, None),
        ({"search": {"repeats": 2}}, "export"),
        ({"search": {"budget": 3.4e6}}, "search"),
        ({"search": {"seed": 1}}, "search"),
        ({"search": {"precision": "bf16"}}, "search"),
        ({"acceleration": {"precision": "bf16"}}, "teacher"),
        ({"acceleration": {"channels_last": True, "fused_adam": False, "data_on_device": True}}, None),
        ({"supernet": {"sampling": {"weight": 2}}}, "supernet"),
        ({"distillation": {"lambda_recon": 10}}, "supernet"),
        ({"student": {"separable": False}}, "supernet"),
        ({"teacher": {"width": 4}}, "teacher"),
        ({"discriminator": {"width": 8}}, "teacher"),
        ({"metric": {"min_images": 9}}, "teacher"),
        ({"data": {"direction": "BtoA"}}, "teacher"),
        ({"data": {"procedural_images": 48}}, "teacher"),
        ({"seed": 1}, "teacher"),
    ],
    ids=str,
)
def test_a_change_reaches_only_what_depends_on_it(tiny_folder, change, first):
    before, after = keys(), keys(**change)
    changed = {stage for stage in ALL if before[stage] != after[stage]}
    assert changed == set(ALL[ALL.index(first) :] if first else ())


@pytest.mark.parametrize(
    ("change", "left_out", "first"),
    [
        ({"search": {"weights": "reconstructed"}}, "supernet", "search"),
        ({"pretrain": SCHEDULE}, None, "pretrain"),
        ({"pretrain": SCHEDULE, "search": {"weights": "reconstructed"}}, "supernet", "pretrain"),
    ],
    ids=str,
)
def test_stages_that_a_recipe_asks_for_change_the_later_ones(tiny_folder, change, left_out, first):
    before, made = keys(), pipeline(**change)
    names = made.stages("export")
    assert names == [each for each in STAGES if each in (*ALL, first) and each != left_out]
    changed = [each for each in names if made.key(each) != before.get(each)]
    assert changed == names[names.index(first) :]
    assert made.before_search == names[names.index("search") - 1]


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"supernet": {"schedule": {**SCHEDULE, "epochs": 3}, "ema": 0.9}}, None),
        ({"supernet": {"discriminator_warmup": 3}}, "finetune"),
        ({"distillation": {"lambda_recon": 10}}, "finetune"),
        ({"student": {"separable": False}}, "search"),
        ({"seed": 1}, "teacher"),
    ],
    ids=str,
)
def test_without_a_supernet_what_trains_one_changes_nothing(tiny_folder, change, first):
    before, after = (pipeline(search={"weights": "reconstructed"}, **each) for each in ({}, change))
    names = before.stages("export")
    changed = [each for each in names if before.key(each) != after.key(each)]
    assert changed == (names[names.index(first) :] if first else [])


def test_widths_change_what_builds_on_the_student(tiny_folder):
    before = keys()
    text = (tiny_folder / "space.json").read_text()
    (tiny_folder / "space.json").write_text(text.replace(", ", " ,\n"))
    assert keys() == before
    (tiny_folder / "space.json").write_text(text.replace("[4, 8]", "[4, 8, 12]", 1))
    after = keys()
    assert {stage for stage in ALL if before[stage] != after[stage]} == set(ALL[1:])


def test_the_checkpoint_s_content_counts(tiny_folder):
    def with_weights(value):
        save_weights(tiny_folder / "teacher.safetensors", {"a": torch.full((2,), value)})
        return keys(teacher={"checkpoint": str(tiny_folder / "teacher.safetensors")})

    first, same, other = with_weights(1.0), with_weights(1.0), with_weights(2.0)
    assert first == same
    assert all(first[stage] != other[stage] for stage in ALL)


def test_all_stages_leave_what_they_promise(finished_copy):
    run = pipeline()
    folder = run.run.folder
    for stage in ALL:
        assert run.done(stage)
        assert run.record(stage)["key"] == run.key(stage)
    architecture = Architecture.load(folder / "architecture.json")
    assert architecture.macs_published <= run.run.recipe.search.budget
    final = Architecture.load(folder / "export" / "architecture.json")
    assert final.widths == architecture.widths
    assert final.metrics["frechet_random/test"] == run.record("export")["score"]
    with Image.open(folder / "export" / "picture.png") as image:
        image.verify()
    with safe_open(folder / "export" / "compressed.safetensors", "pt") as file:
        assert Architecture.model_validate_json(file.metadata()["architecture"]) == final
    assert [path for path in folder.rglob(".*") if path.is_file()] == []


def test_exported_files_need_none_of_the_machinery(finished_copy):
    run = pipeline().run
    folder = run.folder / "export"
    architecture = Architecture.load(folder / "architecture.json")
    used, outputs = set(), []
    handle = register_module_forward_pre_hook(lambda module, _: used.add(type(module)) and None)
    try:
        for ending in (".pth", ".safetensors"):
            network = architecture.network()
            path = folder / f"compressed{ending}"
            load_into(network, load_weights(path), path)
            with torch.no_grad():
                outputs.append(network(torch.stack([run.data.test.sources[0], run.data.test.sources[1]])))
    finally:
        handle.remove()
    assert torch.equal(*outputs)
    assert outputs[0].std() > 0
    assert {kind.__module__.partition(".")[0] for kind in used} == {"torch", "ganc_nni"}
    assert isinstance(torch.load(folder / "compressed.pth", weights_only=True), dict)


def test_the_better_of_before_and_after_is_exported(finished_copy):
    made = pipeline()
    run, record = made.run, made.record("finetune")
    path = run.folder / "export" / "compressed.pth"
    network = Architecture.load(run.folder / "architecture.json").network()
    load_into(network, load_weights(path), path)
    assert run.evaluator("search").score(network) == pytest.approx(min(record["before"], record["after"]), rel=1e-9)
    assert made.record("search")["score"] == pytest.approx(record["before"], rel=1e-6)


def test_the_summary_compares_teacher_and_compressed(finished_copy):
    run = pipeline().run
    rows = read_summary(run.folder)["networks"]
    architecture = Architecture.load(run.folder / "architecture.json")
    assert rows["compressed"]["macs_published"] == architecture.macs_published
    assert (
        rows["compressed"]["params"]
        == architecture.params
        == sum(p.numel() for p in architecture.network().parameters())
    )
    assert rows["teacher"]["params"] == sum(p.numel() for p in run.load_teacher().parameters())
    assert rows["teacher"]["score"] == pytest.approx(run.evaluator("test").score(run.load_teacher()), rel=1e-9)
    assert all(row["latency_ms"] > 0 for row in rows.values())


def test_a_second_run_does_nothing(finished_copy):
    before = contents(finished_copy / "runs")
    pipeline().run_until("export")
    assert contents(finished_copy / "runs") == before


@pytest.mark.parametrize("stage", ["teacher", "supernet"])
def test_weights_that_are_not_those_of_their_stage_are_not_built_on(finished_copy, stage):
    path = next((finished_copy / "runs" / "tiny" / stage).glob(f"{stage}.safetensors"))
    intact = path.read_bytes()
    path.write_bytes(intact[:-2] + bytes([intact[-2] ^ 1]) + intact[-1:])
    anew = {"finetune": {**SCHEDULE, "epochs": 2}}
    with pytest.raises(InputError, match=rf"{stage}\.safetensors: is not what stage {stage} has written"):
        pipeline(**anew).run_until("export")
    path.write_bytes(intact)
    assert pipeline(**anew).inputs("finetune").changes(pipeline().inputs("finetune"))
    pipeline(**anew).prepare("finetune")


def test_fine_tuning_anew_leaves_the_stages_before_alone(finished_copy):
    folder = finished_copy / "runs" / "tiny"
    before = contents(folder)
    made = pipeline(finetune={**SCHEDULE, "epochs": 2})
    made.run_until("export")
    after = contents(folder)
    for path, content in before.items():
        if any(f"/{stage}/" in path for stage in ("teacher", "supernet", "search")):
            assert after[path] == content, path
    assert after[str(folder / "finetune" / "stage.json")] != before[str(folder / "finetune" / "stage.json")]
    assert all(made.done(stage) for stage in ALL)


def test_what_another_recipe_left_is_moved_aside_and_comes_back(finished_copy):
    folder = finished_copy / "runs" / "tiny" / "finetune"
    before = {path: content for path, (_, content) in contents(folder).items()}
    other, first = pipeline(finetune={**SCHEDULE, "epochs": 2}), pipeline()
    other.prepare("finetune")
    assert not other.done("finetune")
    assert not (folder / "stage.json").exists()
    write_text(folder / "mine.txt", "other")
    first.prepare("finetune")
    assert first.done("finetune")
    assert {path: content for path, (_, content) in contents(folder).items()} == before
    other.prepare("finetune")
    assert (folder / "mine.txt").read_text() == "other"
    assert pipeline().done("finetune") is False


def test_folders_of_unknown_origin_are_never_deleted(tiny_folder):
    folder = tiny_folder / "runs" / "tiny" / "teacher"
    for number in range(2):
        write_text(folder / f"precious_{number}.txt", "mine")
        (folder / "begun.txt").unlink(missing_ok=True)
        pipeline().prepare("teacher")
    assert len(list((tiny_folder / "runs").rglob("precious_*.txt"))) == 2


def test_the_architecture_of_a_search_comes_back_with_it(finished_copy):
    path = finished_copy / "runs" / "tiny" / "architecture.json"
    first = Architecture.load(path)
    pipeline(search={"budget": 2.3e6, "seed": 5}).run_until("search")
    other = Architecture.load(path)
    assert other.widths != first.widths
    again = pipeline()
    again.run_until("export")
    assert Architecture.load(path).widths == first.widths
    exported = Architecture.load(again.run.folder / "export" / "architecture.json")
    assert exported.widths == first.widths
    assert again.record("search")["score"] == first.metrics["frechet_random/search"]


def test_stages_that_were_cut_short_are_finished(finished_copy):
    """What a kill between the last file and ``stage.json`` leaves."""
    folder = finished_copy / "runs" / "tiny"
    before = {stage: json.loads((folder / stage / "stage.json").read_text()) for stage in ALL}
    for stage in ("search", "finetune", "export"):
        (folder / stage / "stage.json").unlink()
    pipeline().run_until("export")
    for stage in ALL:
        after = json.loads((folder / stage / "stage.json").read_text())
        assert {**after, "seconds": 0, PEAKS: 0} == {**before[stage], "seconds": 0, PEAKS: 0}


def test_waiting_ends_when_the_stage_is_done_or_the_run_given_up(tiny_folder):
    made = pipeline()
    timer = threading.Timer(0.3, lambda: pipeline().finish("teacher", {"score": 1.0}, 2.0))
    timer.start()
    start = time.monotonic()
    made.wait_for("teacher", 0.02)
    assert time.monotonic() - start > 0.2
    assert made.record("teacher")["score"] == 1.0
    write_text(made.run.folder / "error.txt", "no space left\n")
    made.wait_for("teacher", 0.02)
    with pytest.raises(TrainingError, match="supernet: no space left"):
        made.wait_for("supernet", 0.02)


def test_a_failing_stage_is_not_done_and_is_run_again(tiny_folder, monkeypatch):
    calls = []

    def train(run, report):
        calls.append(run)
        if len(calls) == 1:
            raise TrainingError("broke down")
        return {"score": 2.5}

    monkeypatch.setitem(STAGES, "teacher", dataclasses.replace(STAGES["teacher"], run=train))
    made = pipeline()
    with pytest.raises(TrainingError, match="broke down"):
        made.run_stage("teacher")
    assert not made.done("teacher")
    record = made.run_stage("teacher")
    assert record["score"] == 2.5
    assert made.run_stage("teacher") == record
    assert len(calls) == 2


def test_scores_of_another_precision_lie_aside_and_come_back(finished_copy):
    search = finished_copy / "runs" / "tiny" / "search"
    before = (search / "trials.csv").read_bytes()
    pipeline(search={"precision": "bf16"}).prepare("search")
    assert not (search / "trials.csv").exists()
    pipeline().prepare("search")
    assert (search / "trials.csv").read_bytes() == before
