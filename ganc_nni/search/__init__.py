"""Exploring a trained supernet with NNI's strategies, in one process or with a trial for each sub-generator.

- What is explored: ``budget`` and ``budgeted`` (the sub-generators within a budget), ``strategy`` with ``elitist``,
  ``parzen`` and ``sampling``, over an ``engine`` that has samples scored.
- What is found: ``journal`` (the truth), ``record`` (tables, best so far), ``front``, ``selection`` (the honest score).
- In one process: ``stage``.
- Under nnictl, in the tuner's process: ``tuner``, ``bridge`` (to the strategy), ``desk``, ``experiment``,
  ``manager`` (NNI's server).
- In a trial's process, which is light: ``trial``, ``channel`` (NNI's), ``client``. In the process that scores for all
  of them: ``server``, ``scorer``, and ``identity``, whether a machine works with what the tuner means.
"""
