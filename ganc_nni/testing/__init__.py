"""Conformance suites: what every member of a registry keeps to, for members of this package and of users alike.

A test file inherits a suite and names its members (docs/extending.md); pytest does the rest.
"""
