"""Tests in a real browser, a headless Chromium: the dashboard, and what browsers make of event streams. Without one they are skipped."""
