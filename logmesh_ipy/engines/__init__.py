"""Engines: where bootstraps run, and how their connection reaches the client."""
