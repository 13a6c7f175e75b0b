"""The one-click address of a live site, called in every way that mail programs call it."""
