"""Token shards, the order of windows, and text that needs no download."""
