"""The experiments of the paper: ``python -m experiments.train``, ``.sweep`` and ``.report``."""
