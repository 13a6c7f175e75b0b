"""What sending systems ask: may we send, links, suppressions, scrubs, and why."""
