"""Mean opinion scores from real readers: a blinded form and its analysis.

``python -m sr_core.evaluate.reading prepare`` writes one offline page per reader and the key that stays
with the study's owner; ``... analyse`` unblinds what readers answered. How to run a study:
deploy/docs/READING.md.
"""
