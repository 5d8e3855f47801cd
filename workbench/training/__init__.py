"""Answers and votes of a run become examples to fine-tune a model on; some cases are held out."""
