"""Runs whose answers come later: submitted now, collected another day."""
