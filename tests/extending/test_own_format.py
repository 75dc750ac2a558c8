"""The export format of docs/extending.md, in a file of its own, keeps to the contract of formats."""

from extending_examples import example

from ganc_nni.core.registry import load_plugins
from ganc_nni.export import FORMATS
from ganc_nni.testing.formats import FormatConformance


def test_it_runs_through_the_suite(install, tmp_path):
    install("torchscript", example("@register_format"))
    load_plugins()
    assert FORMATS["torchscript"].suffix == ".pt"
    suite = FormatConformance()
    suite.test_its_files_have_a_name_of_their_own("torchscript")
    suite.test_a_file_is_the_same_each_time("torchscript")
    for as_bytes in (False, True):
        suite.test_a_deployed_file_does_what_the_network_does("torchscript", as_bytes, tmp_path)
