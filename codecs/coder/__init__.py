"""The range coder, beside its plain reference, and variable-length integers. It knows no model."""
