"""Train on long-tailed handwritten digits, plain against class-balanced: ``python -m examples.digits``."""
