"""What the tests share: a proxy that misbehaves, a witness that tells the truth, a base class for tests with real servers."""
