"""squeeze: pack tiny language models under a hard byte budget, and score the file that ships.

Importing this package imports neither torch nor numba; the commands load what they need.
"""

from squeeze.version import __version__

__all__ = ["__version__"]
