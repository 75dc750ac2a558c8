"""What a run has done, as one page for a browser.

Stages leave ``provenance`` and ``pictures``; ``collect`` reads a run folder, ``charts`` draws, ``build`` writes.
"""
