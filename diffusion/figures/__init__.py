"""Figures from arrays. figure_data/ makes the arrays, edited_images.py edits images, catalogue.py names all figures."""
