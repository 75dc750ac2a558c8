"""The trial command of experiments of version 0.1: ``python -m ganc_nni.search.trial experiments/X.yml``."""

from ganc_nni.nnictl.trial import command

if __name__ == "__main__":
    command()
