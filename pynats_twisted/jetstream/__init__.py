"""JetStream: streams, consumers and what they store.

:mod:`pynats_twisted.jetstream.api` has the types of the JetStream API. It is pure data: no I/O, no clock, no Twisted.
"""
