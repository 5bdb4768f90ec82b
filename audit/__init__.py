"""What leakage means: vocabulary, statistics, and the conductor. Importing it needs numpy and scipy only."""
