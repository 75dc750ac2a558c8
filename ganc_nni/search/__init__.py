"""NNI's exploration strategies over a trained supernet."""
