"""Exploring a trained supernet with NNI's strategies, in one process or with a trial for each sub-generator."""
