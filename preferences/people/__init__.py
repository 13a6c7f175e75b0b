"""What a person does: choose, stop, sign up, change addresses. One function for each request."""
