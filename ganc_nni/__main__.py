"""``python -m ganc_nni`` is ``ganc``."""

from ganc_nni.cli import main

main()
