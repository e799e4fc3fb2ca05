"""Data for training and scoring: fetch shards, make them from text, check them, train tokenizers."""
