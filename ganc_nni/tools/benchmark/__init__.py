"""How fast networks answer on this device, by several ways of running them.

Nothing is imported here: a worker must not load torch before it knows how.
"""
