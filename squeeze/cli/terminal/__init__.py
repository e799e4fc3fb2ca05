"""What a terminal, a pipe or a log gets: lines, and streams that do not fail in surprising ways."""
