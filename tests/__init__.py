"""The tests of pynats_twisted. Run them with ``trial tests``."""
