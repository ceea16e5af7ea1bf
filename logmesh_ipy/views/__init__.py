"""Views: render from the store, capped in rate and size."""
