"""Trainers of teacher and chosen sub-generator, and what they share with the supernet's."""
