"""One file of code, as small as it goes, that runs: flatten, shake, minify, compress, wrap."""
