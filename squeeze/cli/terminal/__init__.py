"""Lines for terminals, pipes and logs, and streams that do not fail in surprising ways."""
