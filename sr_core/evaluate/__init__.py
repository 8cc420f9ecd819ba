"""How well methods do on simulated studies whose truth is known: ``python -m sr_core.evaluate CONFIG``."""
