"""Loopback stand-ins for what tests cannot reach, and small real things to test with."""
