import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny import settings
from typer.main import get_command
from typer.testing import CliRunner

from ganc_nni.cli import app, main
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.recipe import load_recipe
from ganc_nni.run import Run
from ganc_nni.stages.checks import check

COMMANDS = sorted(get_command(app).commands)


def write_recipe(folder, **sections):
    path = folder / "tiny.recipe.yml"
    path.write_text(yaml.safe_dump(settings("space.json", **sections)))
    return path


@pytest.fixture
def ganc(monkeypatch, capsys):
    """Runs ``ganc`` in this process: exit code, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ganc", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def refused(ganc, tiny_folder):
    """The error line of a command that is refused before it has made anything."""

    def line(*arguments):
        code, out, err = ganc(*arguments)
        assert code == 2
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert not (tiny_folder / "runs").exists()
        return err

    return line


@pytest.mark.parametrize("command", [[], *([command] for command in COMMANDS)], ids=str)
def test_every_command_has_help(command):
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output
    assert len(result.output.splitlines()) > 5


def test_the_help_of_the_demo_says_how_to_install_it():
    assert "pip install '.[demo]'" in " ".join(CliRunner().invoke(app, ["demo", "--help"]).output.split())


def test_names_are_printed_as_they_are(ganc, finished_copy):
    (finished_copy / "runs" / "tiny").rename(finished_copy / "runs" / "my [b]run :smile:")
    code, out, err = ganc("report", "runs/my [b]run :smile:")
    assert (code, err) == (0, "")
    assert out.count("my [b]run :smile:") == 4


def test_the_version_is_printed(ganc):
    from ganc_nni import __version__

    assert ganc("--version") == (0, f"ganc {__version__}\n", "")


STAGES = ("run", "train-teacher", "train-supernet", "search", "finetune", "export")


@pytest.mark.parametrize("command", STAGES)
def test_a_bad_recipe_is_one_line(refused, tiny_folder, command):
    path = write_recipe(tiny_folder, teacher={"widht": 8})
    assert "teacher.widht: unknown key; did you mean width?" in refused(command, path)


@pytest.mark.parametrize("command", STAGES)
def test_a_missing_recipe_is_one_line(refused, command):
    assert "none.recipe.yml: no such file" in refused(command, "none.recipe.yml")


def test_a_missing_search_space_is_one_line(refused, tiny_folder):
    path = write_recipe(tiny_folder, student={"space": "none.json"})
    assert "none.json: cannot be read" in refused("run", path)


def test_a_missing_data_folder_is_one_line(refused, tiny_folder):
    path = write_recipe(tiny_folder, data={"root": str(tiny_folder / "nowhere")})
    line = refused("run", path)
    assert str(tiny_folder / "nowhere") in line
    assert "data.root" in line


def test_a_folder_of_another_layout_is_one_line(refused, tiny_folder):
    (tiny_folder / "images" / "trainA").mkdir(parents=True)
    path = write_recipe(tiny_folder, data={"root": str(tiny_folder / "images")})
    assert "train" in refused("run", path)


def test_too_few_images_are_one_line(refused, tiny_folder):
    for name in ("train", "test"):
        (tiny_folder / "images" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (64, 32), (number, 0, 0)).save(tiny_folder / "images" / name / f"{number}.png")
    path = write_recipe(tiny_folder, data={"root": str(tiny_folder / "images")})
    line = refused("run", path)
    assert "has 2 source images" in line
    assert "metric.min_images" in line


@pytest.mark.parametrize("convention", ["published", "true"])
def test_a_budget_out_of_reach_names_what_is_in_reach(refused, tiny_folder, convention):
    run = Run(load_recipe(write_recipe(tiny_folder)))
    smallest, largest = (
        run.student_cost.at(sample).macs(convention) for sample in (run.space.smallest(), run.space.largest())
    )
    for budget, side in ((smallest - 1, "below the smallest"), (largest + 1, "above the largest")):
        path = write_recipe(tiny_folder, search={"budget": budget, "convention": convention})
        line = refused("run", path)
        assert side in line
        assert f"from {smallest} to {largest}" in line
    for budget in (smallest, largest):
        path = write_recipe(tiny_folder, search={"budget": budget, "convention": convention})
        check(Run(load_recipe(path)))


def test_a_teacher_that_does_not_fit_is_one_line(refused, tiny_folder):
    path = write_recipe(tiny_folder, teacher={"checkpoint": str(tiny_folder / "space.json")})
    assert "cannot be read as weights" in refused("run", path)


def test_a_teacher_s_width_depth_and_kind_are_found_in_its_file(tiny_folder):
    torch.save(ResnetGenerator([12] * 8, n_blocks=6, separable=True).state_dict(), tiny_folder / "teacher.pth")
    run = Run(
        load_recipe(write_recipe(tiny_folder, teacher={"checkpoint": str(tiny_folder / "teacher.pth"), "width": 4}))
    )
    check(run)
    assert run.load_teacher().feature_channels == [48] * 4
    assert (run.teacher_config.n_blocks, run.teacher_config.separable) == (6, True)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"source_channels": 1}, "data.source_channels: the recipe says 1"),
        ({"target_channels": 1}, "data.target_channels: the recipe says 1"),
    ],
)
def test_a_checkpoint_for_other_images_is_refused(refused, tiny_folder, data, told):
    torch.save(ResnetGenerator([12] * 8, n_blocks=6, separable=True).state_dict(), tiny_folder / "teacher.pth")
    path = write_recipe(tiny_folder, data=data, teacher={"checkpoint": str(tiny_folder / "teacher.pth")})
    assert told in refused("run", path)
    assert "teacher.pth has 3; correct the recipe" in refused("run", path)


LARGEST_SEED = 2**32 - 1


@pytest.mark.parametrize("changes", [{"seed": -1}, {"search": {"seed": -1}}, {"search": {"seed": 2**40}}], ids=str)
def test_a_seed_that_cannot_work_is_refused(refused, tiny_folder, changes):
    assert "seed: " in refused("run", write_recipe(tiny_folder, **changes))


@pytest.mark.parametrize("changes", [{"seed": LARGEST_SEED}, {"search": {"seed": LARGEST_SEED}}, {"seed": 0}], ids=str)
def test_a_seed_at_either_end_works(tiny_folder, changes):
    from ganc_nni.search.strategies import build_strategy
    from ganc_nni.supernet.sampling import WidthSampler

    run = Run(load_recipe(write_recipe(tiny_folder, **changes)))
    check(run)
    WidthSampler(run.space, run.recipe.supernet.sampling, run.recipe.seed).draw(0)
    build_strategy(run.recipe.search)


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=str)
def test_a_report_on_nothing_is_one_line(refused, as_json):
    assert "runs/none: no export/summary.json" in refused("report", "runs/none", *as_json)


def test_a_report_says_why_a_run_ended(ganc, tiny_folder):
    folder = tiny_folder / "runs" / "broken"
    folder.mkdir(parents=True)
    (folder / "error.txt").write_text("losses are not finite\n")
    code, out, err = ganc("report", folder)
    assert (code, out) == (2, "")
    assert "losses are not finite" in err
    assert err.count("\n") == 1


def test_a_report_as_json_is_one_line_of_figures(ganc, finished_copy):
    code, out, err = ganc("report", "runs/tiny", "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    figures = json.loads(out)
    assert figures == json.loads((finished_copy / "runs" / "tiny" / "export" / "summary.json").read_text())
    assert set(figures["networks"]) == {"teacher", "compressed"}


def test_a_report_shows_both_networks(ganc, finished_copy):
    summary = json.loads((finished_copy / "runs" / "tiny" / "export" / "summary.json").read_text())
    code, out, err = ganc("report", "runs/tiny")
    assert (code, err) == (0, "")
    for network in summary["networks"].values():
        assert f"{network['params']:,}" in out
    assert "runs/tiny/architecture.json" in out


def test_a_report_is_a_page_too(ganc, finished_copy):
    path = finished_copy / "runs" / "tiny" / "report" / "index.html"
    path.unlink()
    code, out, err = ganc("report", "runs/tiny")
    assert (code, err) == (0, "")
    assert "runs/tiny/report/index.html" in out
    assert "</html>" in path.read_text()


def test_a_finished_run_is_shown_without_writing_its_page_again(ganc, finished_copy):
    (finished_copy / "tiny.recipe.yml").write_text(yaml.safe_dump(settings("space.json")))
    path = finished_copy / "runs" / "tiny" / "report" / "index.html"
    before = path.stat().st_mtime_ns
    for _ in range(2):
        code, out, err = ganc("run", "tiny.recipe.yml")
        assert (code, err) == (0, "")
        assert "runs/tiny/report/index.html" in out
    assert path.stat().st_mtime_ns == before
    path.unlink()
    assert ganc("run", "tiny.recipe.yml")[0] == 0
    assert "</html>" in path.read_text()


@pytest.mark.parametrize("name", ["summary.json", "compressed.safetensors", "architecture.json"])
def test_what_was_removed_from_an_export_is_made_again(ganc, finished_copy, name):
    (finished_copy / "tiny.recipe.yml").write_text(yaml.safe_dump(settings("space.json")))
    path = finished_copy / "runs" / "tiny" / "export" / name
    path.unlink()
    assert ganc("export", "tiny.recipe.yml")[0] == 0
    assert path.is_file()


def test_a_report_on_an_unfinished_run_is_a_page_alone(ganc, finished_copy):
    folder = finished_copy / "runs" / "tiny"
    for stage in ("export", "finetune", "report"):
        shutil.rmtree(folder / stage)
    code, out, err = ganc("report", "runs/tiny")
    assert (code, out, err) == (0, "report:       runs/tiny/report/index.html\n", "")
    assert "Not finished" in (folder / "report" / "index.html").read_text()
    code, out, err = ganc("report", "runs/tiny", "--json")
    assert (code, out) == (2, "")
    assert "no export/summary.json" in err


def test_a_report_that_cannot_be_written_is_printed_all_the_same(ganc, finished_copy):
    shutil.rmtree(finished_copy / "runs" / "tiny" / "report")
    (finished_copy / "runs" / "tiny" / "report").write_text("in the way")
    code, out, err = ganc("report", "runs/tiny")
    assert code == 1
    assert "compressed" in out
    assert err.startswith("error: runs/tiny/report/index.html: cannot be written")
    assert err.count("\n") == 1


def test_running_what_is_done_prints_the_report(ganc, finished_copy):
    before = (finished_copy / "runs" / "tiny" / "export" / "stage.json").read_bytes()
    code, out, err = ganc("run", write_recipe(finished_copy))
    assert (code, err) == (0, "")
    assert "compressed" in out
    assert (finished_copy / "runs" / "tiny" / "export" / "stage.json").read_bytes() == before


def test_a_process_of_its_own_prints_one_line_too(tiny_folder):
    path = write_recipe(tiny_folder, search={"budget": 1})
    done = subprocess.run(
        [sys.executable, "-m", "ganc_nni", "run", path], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: search.budget")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def horses(tiny_folder):
    """A supernet and a folder of images."""
    torch.manual_seed(2)
    network = ResnetGenerator([8] * 8, n_blocks=3, separable=True)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2)
    torch.save(network.state_dict(), tiny_folder / "net.pth")
    (tiny_folder / "horses").mkdir()
    random = np.random.default_rng(3)
    for number in range(6):
        pixels = random.integers(0, 256, (30, 33, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tiny_folder / "horses" / f"{number}.png")
    return tiny_folder


def test_convert_says_what_it_found_and_how_to_use_it(ganc, horses):
    code, out, err = ganc("convert", "net.pth", "small.safetensors", "--config-str", "4_8_4_8_4_8_4_8")
    assert (code, err) == (0, "")
    assert "net.pth: ResNet generator, 3 blocks, separable convolutions, widths 4_8_4_8_4_8_4_8" in out
    assert "small.safetensors: for any --generator" in out
    code, out, err = ganc("convert", "small.safetensors", "back.pth", "--to", "gan-compression")
    assert (code, out) == (2, "")
    assert "gan-compression knows 9 only" in err
    assert not (horses / "back.pth").exists()


def test_profile_prints_a_table_or_json(ganc, horses):
    code, out, _ = ganc("profile", "--generator", "net.pth", "--size", 32, 32)
    assert code == 0
    assert all(part in out for part in ("MACs (published convention)", "parameters", "8_8_8_8_8_8_8_8", "at 32x32"))
    code, out, err = ganc("profile", "--generator", "net.pth", "--size", 32, 32, "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    figures = json.loads(out)
    assert {"macs_published", "macs_true", "params", "weights_bytes"} <= set(figures)
    sub = json.loads(
        ganc("profile", "--generator", "net.pth", "--config-str", "4_4_4_4_4_4", "--size", 32, 32, "--json")[1]
    )
    space = ("profile", "--space", "space.json", "--json")
    assert json.loads(ganc(*space, "--config-str", "4_4_4_4_4_4_4_4")[1])["config_str"] == sub["config_str"]
    assert set(json.loads(ganc(*space)[1])) == {"largest student", "smallest student"}
    recipe = write_recipe(horses)
    assert set(json.loads(ganc("profile", "--recipe", recipe, "--json")[1])) == {
        "teacher", "largest student", "smallest student"
    }  # fmt: skip
    assert (
        json.loads(ganc("profile", "--recipe", recipe, "--config-str", "4_4_4_4_4_4", "--json")[1])["params"]
        == sub["params"]
    )


@pytest.mark.parametrize("sources", [[], ["--space", "space.json", "--generator", "net.pth"]])
def test_profile_wants_one_source(refused, sources):
    assert "exactly one of --generator" in refused("profile", *sources)


def test_translate_and_score(ganc, horses):
    options = ("--input", "horses", "--output", "zebras", "--config-str", "4_4_8_4_4_4_8_8", "--device", "cpu")
    code, out, err = ganc("translate", "--generator", "net.pth", *options, "--batch-size", 4)
    assert (code, out, err) == (0, "6 images in zebras\n", "")
    metric = ("--metric", "frechet_random", "--device", "cpu")
    code, out, err = ganc("score", "--fake", "zebras", "--real", "horses", *metric, "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    figures = json.loads(out)
    assert list(figures)[:7] == ["metric", "value", "weights_sha256", "dims", "resize", "n_fake", "n_real"]
    assert figures["low"] < figures["high"]
    assert {name: figures[name] for name in list(figures)[9:]} == dict.fromkeys(
        ["ssim", "psnr", "teacher", "untouched", "verdict"]
    )
    assert (figures["metric"], figures["n_fake"], figures["n_real"]) == ("frechet_random", 6, 6)
    assert ganc("stats", "--input", "horses", "--output", "horses.npz", *metric)[0] == 0
    code, out, _ = ganc("score", "--fake", "zebras", "--real", "horses.npz", *metric)
    assert code == 0
    assert f"frechet_random {figures['value']:.6g} (lower is better)" in out
    assert figures["weights_sha256"][:30] in out
    kid = json.loads(ganc("score", "--fake", "zebras", "--real", "horses", "--metric", "kid_random", "--json")[1])
    assert kid["metric"] == "kid_random"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("translate", "--generator", "no.pth", "--input", "horses", "--output", "out"), "no.pth: no such file"),
        (("translate", "--generator", "net.pth", "--input", "none", "--output", "out"), "none: no such folder"),
        (("translate", "--generator", "space.json", "--input", "horses", "--output", "o"), "space.json: cannot be"),
        (("profile", "--space", "none.json"), "none.json: cannot be read"),
        (("profile", "--space", "space.json", "--config-str", "4_4_9_4_4_4_4_4"), "down_2=9 (choices: 4, 8)"),
        (("profile", "--generator", "net.pth", "--config-str", "4_4_9_4_4_4_4_4"), "down_2=9 (has 8)"),
        (("profile", "--generator", "net.pth", "--config-str", "4_4"), "down_2=?"),
        (("score", "--fake", "horses", "--real", "none", "--metric", "frechet_random"), "none: no such folder"),
        (("score", "--fake", "horses", "--real", "horses", "--dims", 7), "--dims 7: expected one of 64, 192, 768"),
        (("score", "--fake", "horses", "--real", "horses", "--weights", "net.pth"), "net.pth: has no Conv2d_1a_3x3"),
        (("score", "--fake", "horses", "--real", "horses", "--metric", "miou"), "--metric miou: is no score of two"),
        (("stats", "--input", "horses", "--output", "a.txt", "--metric", "frechet_random"), "ends in .npz"),
    ],
)  # fmt: skip
def test_bad_input_of_the_tools_is_one_line(refused, horses, arguments, told):
    before = sorted(horses.iterdir())
    assert told in refused(*arguments)
    assert sorted(horses.iterdir()) == before


def test_a_full_disk_is_one_line(ganc, horses):
    code, out, err = ganc("convert", "net.pth", "/dev/full/net.pth")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_paths_of_every_command_are_read_as_a_shell_reads_them(refused, monkeypatch, tmp_path, command):
    """``--option=~/x`` is not expanded by a shell."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MINE", "none")
    parameters = [each for each in get_command(app).commands[command].params if each.name not in ("help", "json")]
    needed = {
        "profile": ["--generator"],
        "convert": ["", "out.pth"],
        "benchmark": [""],
        "init": [""],
    }.get(command)
    if needed is None:
        required = [each for each in parameters if each.required]
        needed = [each.opts[0] if each.opts[0].startswith("--") else "" for each in required]

    def line(path):
        values = [name if name == "out.pth" else f"{name}={path}" if name else path for name in needed]
        return refused(command, *values)

    assert str(tmp_path / "home" / "none" / "x") in line("~/$MINE/x")
    assert "the environment variable NOBODY is not set" in line("$NOBODY/x")
