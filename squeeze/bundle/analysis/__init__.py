"""Facts about a program: effects, types, handlers, parameters that keywords may reach."""
