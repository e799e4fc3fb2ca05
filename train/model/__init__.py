"""The project's own GPT: configuration, layers, forward pass, incremental cache."""
