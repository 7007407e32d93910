"""Dictionaries in the formats of other tools: SAELens, SAEBench, the dictionary_learning library, the hub."""
