"""Training of networks on simulated studies: ``python -m sr_core.train CONFIG``."""
