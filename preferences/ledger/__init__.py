"""The only writer of entries and of the state computed from them."""
