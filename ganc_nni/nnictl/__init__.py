"""A run as trials of NNI's: the tuner, the trials and the evaluator that scores for them."""
