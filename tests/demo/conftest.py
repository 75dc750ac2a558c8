"""Demos that are served by processes of their own, and a browser with a webcam that only exists in software."""

from pathlib import Path

import pytest
import torch
from demo_pages import Shown
from selenium import webdriver
from tiny import recipe, write_space

from ganc_nni.core.io import save_weights
from ganc_nni.generators import spade
from ganc_nni.interop.files import GeneratorFile
from ganc_nni.run import Run
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.supernet.distillation import make_supernet

CHROMIUM, CHROMEDRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
SPADE = {
    "generator": {"family": "spade", "upsampling": "normal"},
    "data": {"layout": "labels", "image_size": [32, 64], "void_id": 255, "instances": True},
    "teacher": {"width": 8, "schedule": {"epochs": 1, "decay_epochs": 1}},
    "discriminator": {"width": 4, "n_layers": 2, "n_scales": 2},
}


@pytest.fixture(scope="session")
def painted(tmp_path_factory):
    """The folder of an exported SPADE run of untrained networks, which answer loudly."""
    folder = tmp_path_factory.mktemp("painted")
    write_space(folder / "space.json", labels=spade.LABELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run = Run(recipe("space.json", name="painted", **SPADE))
        torch.manual_seed(5)
        sample = run.space.smallest()
        for config, widths, stage, name in (
            (run.teacher_config, run.teacher_widths, "teacher", "teacher"),
            (run.student_config, sample, "finetune", "compressed"),
        ):
            network = config.build(list(widths.values()))
            for parameter in network.parameters():
                torch.nn.init.normal_(parameter, 0, 0.3)
            save_weights(run.folder / stage / f"{name}.safetensors", network.state_dict())
            file = GeneratorFile(run.folder, config, widths, network.state_dict())
        save_weights(run.supernet_weights, make_supernet(run.new_space()).state_dict())
        file.architecture(run.recipe.data.image_size).save(run.folder / "architecture.json")
        Pipeline(run).run_stage("export")
    return run.folder.resolve() if run.folder.is_absolute() else folder / run.folder


@pytest.fixture(scope="module")
def browser():
    if not Path(CHROMIUM).is_file():
        pytest.skip("needs Chromium")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--enable-unsafe-swiftshader",  # the drawing board wants WebGL
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def shown(browser):
    return Shown(browser)
