"""The base of all suites."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar


class Conformance:
    """Tests of a kind of member, run for each of :attr:`members`.

    A subclass whose name begins with ``Test`` is collected by pytest. Its tests take the argument ``name``.

    Attributes:
        members: Names under which the members are registered.
    """

    members: ClassVar[Iterable[str]] = ()

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Run each test for each member; called by pytest."""
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", list(self.members))
