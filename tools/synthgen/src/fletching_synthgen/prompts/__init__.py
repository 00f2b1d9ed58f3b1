"""What prompts are made of.

attributes   seeded sampling of attributes, languages and seed tasks
library      the files of `data/`, and the user's in their place
"""
