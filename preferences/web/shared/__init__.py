"""What several areas of the site use: rendering, the visit, forms, limits, errors."""
