"""What a run has done, as one page for a browser.

``provenance`` and ``pictures`` are left by the stages, ``collect`` reads a run folder, ``charts`` draws, ``build`` writes.
"""
