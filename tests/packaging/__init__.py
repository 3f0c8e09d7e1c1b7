"""What users get when they install the package, in virtual environments of their own. Slow: some seconds per test."""
