"""Evaluation of methods on simulated studies of held-out subjects: ``python -m sr_core.evaluate CONFIG``."""
