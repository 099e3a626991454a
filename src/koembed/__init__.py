"""koembed: make an embedding model good at Korean, and prove each step.

``pipeline.py`` is the place to start reading.
"""

__version__ = "0.1.0"
