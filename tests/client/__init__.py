"""Tests of the Twisted client: in memory, in virtual time."""
