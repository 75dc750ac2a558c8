"""The page of a run: whole, self-contained, and there whatever state the run is in."""

import csv
import itertools
import json
import re
import shutil

import pytest
from html_pages import Page

from ganc_nni.core.errors import InputError
from ganc_nni.generators.architecture import Architecture
from ganc_nni.report.build import PAGE, _tiles, _timings, duration, page
from ganc_nni.report.collect import STAGES, collect
from ganc_nni.stages import pipeline
from ganc_nni.stages.export import read_summary
from ganc_nni.stages.provenance import FILE


def lines(folder):
    with (folder / "search" / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write_lines(folder, rows):
    with (folder / "search" / "trials.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def copies(row, count):
    """Many sub-generators of different figures."""
    return [
        {**row, "trial": n, "macs_published": 10**6 + 37 * n % 10**6, "score": 0.5 + n * 7919 % 10007 / 9000}
        for n in range(count)
    ]


def test_a_report_knows_the_stages_of_a_run():
    assert list(STAGES) == list(pipeline.STAGES)


def test_the_last_stage_leaves_the_page(finished):
    found = Page((finished / "runs" / "tiny" / PAGE).read_text(encoding="utf-8"))
    assert "Left out" not in found.text
    assert "Not finished" not in found.text


def test_all_figures_are_on_it(folder, parsed):
    text = parsed(folder).text
    summary = read_summary(folder)
    for network in summary["networks"].values():
        for key, form in (
            ("macs_published", "{:,}"),
            ("macs_true", "{:,}"),
            ("params", "{:,}"),
            ("score", "{:.4g}"),
            ("latency_ms", "{:.2f}"),
        ):
            assert form.format(network[key]) in text, key
    teacher, compressed = summary["networks"].values()
    low, high = compressed["interval"]
    assert low < compressed["score"] < high
    assert f"{low:.4g} to {high:.4g}" in text
    assert f"SSIM to the teacher {compressed['ssim']:.4g}" in text
    assert f"PSNR to the teacher (dB) {compressed['psnr']:.4g}" in text
    assert f"untouched input {summary['untouched']:.4g}" in text
    assert f"ground truth, search split {summary['ground_truth']:.4g}" in text
    assert summary["verdict"] in text
    assert f"{teacher['macs_published'] / compressed['macs_published']:.1f}x less" in text
    architecture = Architecture.load(folder / "architecture.json")
    assert all(f"{label} 8 {width}" in text for label, width in architecture.widths.items())
    front = collect(folder).trials.front
    assert all(f"{str(each.widths).replace('_', ' ')} {each.macs:,} {each.score:.4g}" in text for each in front)
    for stage in ("teacher", "supernet", "search", "finetune", "export"):
        record = json.loads((folder / stage / "stage.json").read_text())
        assert duration(record["seconds"]) in text
    for words in (
        "budget: 3.5M",
        "learning_rate: 0.0002",
        "ganc run experiments/tiny.recipe.yml",
        "torchvision",
        "torch uses 1",
    ):
        assert words in text
    for name in ("score", "loss: gan", "loss: recon", "loss: distill", "largest", "smallest", "student"):
        assert name in text


def test_it_needs_nothing_from_outside_and_runs_nothing(folder, parsed):
    found = parsed(folder)
    style = re.search(r"<style>(.*)</style>", page(collect(folder)), re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert not found.all("script", "iframe", "object", "embed", "base")
    for attributes in (attributes for _, attributes in found.tags):
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "action", "srcset", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), attributes


def test_it_can_be_read_without_seeing_it(folder, parsed):
    found = parsed(folder)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {link["href"][1:] for link in found.all("a")} <= set(ids)
    assert all(image["alt"] for image in found.all("img"))
    assert all(head["scope"] in ("row", "col") for head in found.all("th"))
    assert all(figure.get("aria-label") for figure in (a for t, a in found.tags if a.get("role") == "img"))
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert found.all("html")[0]["lang"] == "en"


def test_pictures_are_in_the_page(folder, parsed):
    images = parsed(folder).all("img")
    kinds = [image["alt"].rpartition(": ")[2] for image in images]
    assert kinds == ["input", "teacher", "compressed", "truth"] * (len(images) // 4)
    assert len(images) >= 16
    assert all(image["width"] == "32" and image["src"].startswith("data:image/png") for image in images)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (("export",), "not been exported yet"),
        (("export", "finetune"), "Not finished: Fine-tuning, Export"),
        (("export", "finetune", "search", "architecture.json"), "the search has not begun"),
        (("export", "finetune", "search", "architecture.json", "supernet"), "chosen no sub-generator"),
    ],
    ids=str,
)
def test_a_run_that_is_not_finished_has_a_page(folder, parsed, missing, words):
    for name in missing:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = parsed(folder).text
    assert words in text
    assert "Left out" in text
    assert "Teacher" in text


def test_a_run_of_an_earlier_version_has_a_page(folder, parsed):
    for path in folder.glob(f"*/{FILE}"):
        path.unlink()
    shutil.rmtree(folder / "export" / "pictures")
    found = parsed(folder)
    assert found.text.count("made by an earlier version") == 3
    assert [image["alt"][:11] for image in found.all("img")] == ["Test images"]
    assert "down_0 8" in found.text


def test_a_sub_generator_that_no_search_has_scored_has_no_such_row(folder, parsed):
    path = folder / "export" / "summary.json"
    summary = json.loads(path.read_text())
    assert "as searched, search split" in parsed(folder).text
    path.write_text(json.dumps({**summary, "chosen": {**summary["chosen"], "search": None}}))
    text = parsed(folder).text
    assert "as searched, search split" not in text
    assert "as searched, test split" in text


def test_what_others_wrote_stays_text(folder, parsed):
    evil = "<script>alert(1)</script>&amp;\"'"
    rows = lines(folder)
    write_lines(folder, [*rows, {**rows[0], "score": "", "message": evil}])
    path = folder / "export" / FILE
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "recipe": evil, "environment": {evil: evil}}))
    renamed = folder.rename(folder.with_name("<script>a 'b' \"c\""))
    found = parsed(renamed)
    assert not found.all("script")
    assert found.text.count(evil) >= 4
    assert "<script>a" in found.text
    assert """'experiments/<script>a '"'"'b'"'"' "c".recipe.yml'""" in found.text


def test_failed_sub_generators_are_counted_by_reason(folder, parsed):
    rows = lines(folder)
    failed = [{**rows[0], "score": "", "message": why} for why in ["out of memory"] * 3 + ["score is nan"]]
    write_lines(folder, [*rows, *failed])
    text = parsed(folder).text
    assert f"{len(rows)} scored, 4 failed" in text
    assert "3 out of memory" in text
    write_lines(folder, failed)
    assert "no sub-generator has a score yet" in parsed(folder).text


def test_one_sub_generator_is_enough(folder, parsed):
    write_lines(folder, lines(folder)[:1])
    assert "1 sub-generators" in parsed(folder).text


@pytest.mark.parametrize("shape", ["cloud", "all on the front"])
def test_20000_sub_generators_fit_in_a_small_file(folder, shape):
    rows = copies(lines(folder)[0], 20_000)
    if shape != "cloud":
        rows = [{**row, "macs_published": 10**6 + n, "score": 2 - n / 20_000} for n, row in enumerate(rows)]
    write_lines(folder, rows)
    text = page(collect(folder))
    assert "20,000 sub-generators" in Page(text).text
    assert len(text.encode()) < 1_000_000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("teacher/stage.json", "{"),
        ("teacher/stage.json", '{"key": "a", "seconds": "long"}'),
        ("export/summary.json", "[]"),
        ("export/summary.json", '{"metric": "fid"}'),
        ("export/summary.json", "\x00"),
        (f"export/{FILE}", "{}"),
        ("architecture.json", "{}"),
        ("search/trials.csv", "a,b\n1,2\n"),
        ("search/trials.csv", b"\xff\xfe\x00"),
        ("export/pictures/0_input.png", "none"),
    ],
    ids=str,
)
def test_a_damaged_file_is_named_in_one_line(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=re.escape(str(path))) as error:
        collect(folder)
    assert len(str(error.value).splitlines()) == 1


def test_a_table_of_trials_is_read_to_a_limit(folder, monkeypatch):
    monkeypatch.setattr("ganc_nni.report.trials.LARGEST_TABLE", (folder / "search" / "trials.csv").stat().st_size)
    assert collect(folder).trials is not None
    monkeypatch.setattr("ganc_nni.report.trials.LARGEST_TABLE", 2048 - 1)
    with (folder / "search" / "trials.csv").open("a") as file:
        file.write("\n" * 2048)
    with pytest.raises(InputError, match=r"trials\.csv: cannot be read \(is larger than 1 KiB\)"):
        collect(folder)


def test_damaged_curves_hurt_nobody(folder, parsed):
    for path in (folder / "teacher" / "tensorboard").glob("events*"):
        path.write_bytes(path.read_bytes()[:1500] + b"\xff" * 400)
    for path in (folder / "supernet" / "tensorboard").glob("events*"):
        path.write_bytes(b"nothing")
    assert "Fine-tuning" in parsed(folder).text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (59.9, "59.9 s"),
        (59.99, "1 min 0 s"),
        (274.2, "4 min 34 s"),
        (7325, "2 h 2 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations_are_in_two_units(seconds, words):
    assert duration(seconds) == words


def test_each_tile_says_its_own_figure(folder):
    report = collect(folder)
    networks = {
        "teacher": {"macs_published": 9_000_000, "params": 80_000, "latency_ms": 30.0, "score": 4.0},
        "compressed": {"macs_published": 3_000_000, "params": 10_000, "latency_ms": 6.0, "score": 5.0},
    }
    sides = {name: getattr(report.summary, name).model_copy(update=figures) for name, figures in networks.items()}
    tiles = _tiles(report.summary.model_copy(update={"networks": sides}))
    assert [tile[:2] for tile in tiles] == [
        ("3.0x", "fewer MACs"),
        ("8.0x", "fewer parameters"),
        ("5.0x", "faster"),
        ("4 → 5", report.metric),
    ]
    assert tiles[1][2] == "10,000 in all"
    assert tiles[2][2].startswith("30.0 → 6.0 ms")
    assert tiles[3][2].startswith("lower is better")
    turned = {"teacher": sides["compressed"], "compressed": sides["teacher"]}
    backwards = _tiles(report.summary.model_copy(update={"networks": turned}))
    assert [tile[:2] for tile in backwards[:3]] == [
        ("3.0x", "more MACs"),
        ("8.0x", "more parameters"),
        ("5.0x", "slower"),
    ]


def test_the_bars_of_the_stages_fill_the_time_of_the_run(folder):
    report = collect(folder)
    seconds = [each.seconds for each in report.stages.values()]
    bars = _timings(report)
    assert len(bars) == len(seconds) == 5
    for bar, own, before in zip(bars, seconds, itertools.accumulate([0.0, *seconds[:-1]]), strict=True):
        assert bar.part == pytest.approx(100 * own / sum(seconds), abs=0.01)
        assert bar.start == pytest.approx(100 * before / sum(seconds), abs=0.01)
    assert bars[-1].start + bars[-1].part == pytest.approx(100, abs=0.02)


def test_a_summary_of_an_earlier_version_is_judged_by_its_scores_alone(folder, parsed):
    path = folder / "export" / "summary.json"
    summary = json.loads(path.read_text())
    for name in ("untouched", "ground_truth", "verdict"):
        del summary[name]
    for measured in (*summary["networks"].values(), summary["chosen"]):
        for name in ("interval", "ssim", "psnr"):
            del measured[name]
    summary["networks"]["teacher"]["score"], summary["networks"]["compressed"]["score"] = 0.15, 0.45
    path.write_text(json.dumps(summary))
    text = parsed(folder).text
    assert "worse than its teacher: frechet_random 0.45 is outside 2% of the teacher's 0.15" in text
    assert "finetune.epochs" in text
    assert "search.budget" in text
    assert "SSIM" not in text
    assert "interval" not in text
