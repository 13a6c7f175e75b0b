"""What a person does: set preferences, opt out, sign up, change addresses."""
