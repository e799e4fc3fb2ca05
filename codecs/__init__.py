"""Arrays ⇄ bytes: range coder, symbol models, lossless transforms, general compressors."""
