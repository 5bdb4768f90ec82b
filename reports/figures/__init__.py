"""Inline SVG charts: same input, same bytes; colours are CSS variables, so that dark mode and print follow the page."""
