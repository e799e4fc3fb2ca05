"""A submission folder judged by its papers: logs, submission.json, README and script, nothing run."""
