"""The tuner's class path in experiments of version 0.1."""

from ganc_nni.nnictl.tuner import EvolutionTuner

__all__ = ["EvolutionTuner"]
