"""What a run has done, as one page for a browser.

Stages leave ``provenance`` and ``images``; ``collect`` reads a run folder, ``charts`` draws, ``build`` writes.
"""
