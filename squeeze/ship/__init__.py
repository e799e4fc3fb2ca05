"""Code that scripts of others ship: `decode` reads an artifact, `pack` makes one. See docs/adopt.md."""
