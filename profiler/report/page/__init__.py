"""The page that shows a study: one HTML file with all that it needs in it."""
