"""Reading of options: kinds of values, settings that a project keeps, and pages of help."""
