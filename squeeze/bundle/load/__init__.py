"""Reading the modules of a program and joining them into one flat tree."""
