import pytest
from html_pages import Page

from ganc_nni.report.build import page
from ganc_nni.report.collect import collect


@pytest.fixture
def folder(finished_copy):
    """A finished run that may be changed."""
    return finished_copy / "runs" / "tiny"


@pytest.fixture
def parsed():
    """A run folder's page, read strictly."""
    return lambda folder: Page(page(collect(folder)))
