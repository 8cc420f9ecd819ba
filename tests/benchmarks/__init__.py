"""Speed as ratios of interleaved runs: machines differ, ratios taken in one process hold."""
