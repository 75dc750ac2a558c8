import json
import subprocess
import sys

import pytest
import yaml
from PIL import Image
from tiny import settings
from typer.main import get_command
from typer.testing import CliRunner

from ganc_nni.cli import app, main
from ganc_nni.recipe import load_recipe
from ganc_nni.run import Run

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
    (tiny_folder / "pictures" / "trainA").mkdir(parents=True)
    path = write_recipe(tiny_folder, data={"root": str(tiny_folder / "pictures")})
    assert "train" in refused("run", path)


def test_too_few_pictures_are_one_line(refused, tiny_folder):
    for name in ("train", "test"):
        (tiny_folder / "pictures" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (64, 32), (number, 0, 0)).save(tiny_folder / "pictures" / name / f"{number}.png")
    path = write_recipe(tiny_folder, data={"root": str(tiny_folder / "pictures")})
    line = refused("run", path)
    assert "has 2 source pictures" in line
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
        Run(load_recipe(path)).check()


def test_a_teacher_that_does_not_fit_is_one_line(refused, tiny_folder):
    path = write_recipe(tiny_folder, teacher={"checkpoint": str(tiny_folder / "space.json")})
    assert "cannot be read as weights" in refused("run", path)


@pytest.mark.parametrize("changes", [{"seed": -1}, {"search": {"seed": -1}}, {"search": {"seed": 2**40}}], ids=str)
def test_a_seed_works_or_is_refused_before_any_training(tiny_folder, changes):
    from ganc_nni.oneshot.sampling import WidthSampler
    from ganc_nni.recipe import RecipeError
    from ganc_nni.search.strategy import build_strategy

    path = write_recipe(tiny_folder, **changes)
    try:
        run = Run(load_recipe(path))
    except RecipeError:
        return
    run.check()
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
