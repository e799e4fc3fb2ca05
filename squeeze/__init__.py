"""squeeze: pack tiny language models under a hard byte budget, and score the file that ships.

Importing this package imports neither torch nor numba; the commands load what they need.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
